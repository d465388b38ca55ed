#!/usr/bin/env python3
"""Pictures to code grids and back; `--help` tells more."""

from vqnat_plugin.imaging.codes import main

if __name__ == "__main__":
    main()
