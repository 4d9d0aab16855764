"""The recipes of docs/handoff.md and docs/rollout.md, to run them as they stand there.

A recipe is a section `### NAME` below `## Recipes`. The first line of each of its code blocks names the file
that the block is, in a comment; `apps.d/…` belongs to the node, everything else to the release.
"""

import dataclasses
import os
import pathlib
import re

SOURCE = pathlib.Path(os.environ["UPDAGENT_SOURCE_DIR"])
# What the recipes say, and a test says otherwise.
PORT, VERSION, ROOT = "8080", "1.4.2", "/var/lib/updagent"

# A recipe of a server is watched for ten seconds, since it says nothing else: here they would only cost time.
UNWATCHED = '\n[rollout]\nwatch = "0s"\n'

_FILE_NAME = re.compile(r"(?:#|//|;|<!--|<\?php //) ([\w./-]+)")


@dataclasses.dataclass
class Recipe:
    name: str
    app: str
    files: dict  # path in the release: text
    node: dict  # path in the node's configuration: text
    watched: bool  # as it says, or for the default time

    def release(self, version, port, root, **others):
        """Its files for this version, port and root; `others`: further texts to replace."""
        changed = {PORT: str(port), VERSION: version, ROOT: str(root), **others}
        pattern = re.compile("|".join(map(re.escape, changed)))
        files = {path: pattern.sub(lambda found: changed[found[0]], text) for path, text in self.files.items()}
        if not self.watched and "[rollout]" not in files["updagent.toml"]:
            files["updagent.toml"] += UNWATCHED
        return files


def _blocks(section):
    for text in re.findall(r"^```\w+\n(.*?)^```$", section, re.M | re.S):
        found = _FILE_NAME.match(text)
        if not found:
            raise AssertionError(f"a block of a recipe that does not name its file:\n{text}")
        yield found[1], text


def _recipe(section, watched):
    name, _, rest = section.partition("\n")
    files = {}
    for path, text in _blocks(rest):
        if path in files:
            raise AssertionError(f"the recipe of {name} has '{path}' twice")
        # HTML has no comment that may stand before its doctype
        files[path] = text.partition("\n")[2] if path.endswith(".html") else text
    node = {path: files.pop(path) for path in list(files) if path.startswith("apps.d/")}
    app = re.search(r'^app = "([a-z]+)"$', files["updagent.toml"], re.M)[1]
    return Recipe(name.strip(), app, files, node, watched)


def read_all(document="handoff.md"):
    """{name: Recipe}, as docs/`document` has them now."""
    text = (SOURCE / "docs" / document).read_text()
    recipes = text.split("\n## Recipes\n")[1].split("\n## ")[0]
    found = [_recipe(section, document != "handoff.md") for section in recipes.split("\n### ")[1:]]
    return {recipe.name: recipe for recipe in found}
