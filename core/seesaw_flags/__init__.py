"""Flags as every command of ours reads them: parser, values, files and ports, refused in one line.

Knows argparse, the file system and sockets, and none of the parts.
"""
