#!/usr/bin/env python3
"""Bits a dimension and pictures of a trained image model; `--help` tells more."""

from vqnat_plugin.commands.images_evaluate import main

if __name__ == "__main__":
    main()
