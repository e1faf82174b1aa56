"""From one image to its instances (`segmentation`), and many: overlapping `stages`, `outputs`, `video`."""
