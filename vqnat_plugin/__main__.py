"""`python -m vqnat_plugin`: the same as the installed command `vqnat`."""

import sys

from .commands.main import main

sys.exit(main())
