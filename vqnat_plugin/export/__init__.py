"""From a checkpoint to a folder of ONNX graphs that `vqnat_plugin.runtime` decodes."""
