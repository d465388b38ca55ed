"""The subcommands of `vqnat`, one file each: their options and `run`. Heavy imports wait for `run`."""
