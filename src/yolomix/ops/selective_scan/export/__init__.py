"""The selective scan in files of other runtimes: one marked node, and one file per form that takes its place."""
