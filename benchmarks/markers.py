"""Pages whose tables stand between markers, so that what measures them can write them."""

from __future__ import annotations

import re
from collections.abc import Callable


def filled(page: str, table: Callable[[str], str]) -> str:
    r"""Return the page with `table(NAME)` between each `<!-- table NAME -->` and `<!-- end -->`.

    Example:
        >>> filled("<!-- table a --> old <!-- end -->", str.upper)
        '<!-- table a -->\n\nA\n\n<!-- end -->'
    """

    def written(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n\n{table(match[1])}\n\n<!-- end -->"

    return re.sub(r"<!-- table ([\w, ]+) -->.*?<!-- end -->", written, page, flags=re.S)
