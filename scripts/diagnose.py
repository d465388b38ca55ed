#!/usr/bin/env python3
"""Where a trained vq_nat_em loses BLEU; `--help` tells more."""

from vqnat_plugin.commands.diagnose import main

if __name__ == "__main__":
    main()
