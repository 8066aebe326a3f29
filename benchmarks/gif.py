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


def cut(video: Path, out: Path, start: int, seconds: int, shape: str, colours: int) -> None:
    """Cut a part of a video out as a GIF; dithering would triple the file."""
    import imageio_ffmpeg

    palette = f"split[a][b];[a]palettegen=max_colors={colours}[p];[b][p]paletteuse=dither=none"
    part = ["-ss", str(start), "-t", str(seconds), "-i", str(video), "-vf", f"{shape},{palette}"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *part, str(out)], check=True)


def main() -> None:
    newest = sorted(Path("runs/HalfCheetah-v5").glob("*/video.mp4"), key=lambda path: path.stat().st_mtime)
    video = Path(sys.argv[1]) / "video.mp4" if sys.argv[1:] else newest[-1]
    cut(video, OUT, START, SECONDS, SHAPE, colours=24)
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
