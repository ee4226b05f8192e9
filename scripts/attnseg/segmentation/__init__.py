"""Segmentors trained on masks: DeepLab through mmengine's Runner and mmseg's parts."""
