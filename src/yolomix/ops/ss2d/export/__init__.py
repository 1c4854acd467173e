"""SS2D in files of other runtimes: one marked node, and one file per form that takes its place."""
