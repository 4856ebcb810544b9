"""Flags as every command of ours reads them: parser, values and files, each refused in one line.

Knows argparse and the file system, and none of the parts.
"""
