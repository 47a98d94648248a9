"""VGG38 with and without BatchNorm on the embedded digits: who learns, and what reaches the first layer."""

from pathlib import Path

import gradscape as gs

images = gs.load_images("digits")
for norm in ("none", "batch"):
    net = gs.NetConfig(depth=38, norm=norm)
    data = gs.DataConfig(name="digits", train=400, crop_pad=0)
    config = gs.RunConfig(net=net, data=data, batch_size=20, epochs=2)
    run = gs.train_run(config, gs.RunFolder(Path("runs") / config.identity), images)
    print(run)
    print(run.flow)
