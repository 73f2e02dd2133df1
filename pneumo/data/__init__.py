"""Folders of films -> patients -> parts; how films were acquired; augmentation. Knows no network."""
