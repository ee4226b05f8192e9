#!/usr/bin/env bash
set -euo pipefail
pip install --no-deps \
    onedl-mmengine==0.10.12 \
    onedl-mmsegmentation==1.4.2 \
    mmcv-lite==2.1.0
