"""``python -m yolomix`` is the command ``yolomix``."""

import sys

from yolomix.cli import main

sys.exit(main())
