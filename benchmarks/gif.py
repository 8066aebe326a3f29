"""Cut README's moving picture out of a run's video: a few seconds, cropped and small.

    .venv/bin/python benchmarks/gif.py [RUN]

RUN is by default the newest run that `make train` wrote.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OUT = Path(__file__).parent.parent / "docs" / "half_cheetah.gif"
START, SECONDS = 3, 2  # of the video, which runs at full speed; later the body leaves the chequered floor
SHAPE = "crop=iw:ih*0.42:0:ih*0.48,fps=20,scale=360:-1:flags=lanczos"
COLOURS = "split[a][b];[a]palettegen=max_colors=24[p];[b][p]paletteuse=dither=none"  # dithering would triple the file


def main() -> None:
    import imageio_ffmpeg

    newest = sorted(Path("runs/HalfCheetah-v5").glob("*/video.mp4"), key=lambda path: path.stat().st_mtime)
    video = Path(sys.argv[1]) / "video.mp4" if sys.argv[1:] else newest[-1]
    cut = ["-ss", str(START), "-t", str(SECONDS), "-i", str(video)]
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    subprocess.run([*ffmpeg, *cut, "-vf", f"{SHAPE},{COLOURS}", str(OUT)], check=True)
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
