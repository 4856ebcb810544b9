"""Flags as every command of ours reads them: parser, values, files and ports, refused in one line.

Also how commands log. Knows argparse, logging, the file system and sockets, and none of the parts.
"""
