"""`make train`: makes the AI Core's model file from clips anyone can have, and says how good it is.

Not part of the AI Core: it needs the lab's clips, FFmpeg's encoders and VMAF, and LightGBM. What it makes, the AI Core
reads with numpy alone. `build` measures, `fit` learns, `report` judges on clips that were held out; see docs/model.md.
"""
