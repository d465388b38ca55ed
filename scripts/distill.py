#!/usr/bin/env python3
"""Distil binarised data with a teacher; see --help."""

import sys

from vqnat_plugin.commands.distill import main

if __name__ == "__main__":
    sys.exit(main())
