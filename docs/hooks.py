"""What mkdocs is to do beyond its settings."""

import re
from typing import Any

import griffe


def on_page_markdown(markdown: str, *, config: Any, page: Any, **_: Any) -> str:
    """Turn links that lead out of docs/, which work on GitHub as they are, into addresses."""
    out = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\]\({re.escape(out)}([^)]*)\)", rf"]({config.repo_url}/blob/main/\1)", markdown)


class Examples(griffe.Extension):
    """Let the docstrings' section `Example:` be what griffe knows as `Examples:`, code that was run."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
