"A notebook as Markdown, the way Quarto would show it: what the site and the README have in common."

import re

import yaml

HIDING = ("hide", "export", "exporti", "default_exp")
DIRECTIVE = re.compile(r"#\|\s*([\w-]+):?\s*(.*)")
ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def text(value) -> str:
    "Text of a notebook's field, which may be one string or a list of lines."
    return value if isinstance(value, str) else "".join(value)


def directives(cell) -> dict:
    "The `#|` lines of a code cell as a dict; a directive without a value is True."
    found = (DIRECTIVE.match(line) for line in text(cell["source"]).splitlines())
    return {match[1]: yaml.safe_load(match[2]) if match[2] else True for match in found if match}


def fenced(content, language) -> str:
    "`content` as a fenced block, the fence longer than any in it."
    longest = max((len(ticks) for ticks in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def code_markdown(cell, said) -> str:
    "The code of a cell, folded if it asks for it."
    lines = [line for line in text(cell["source"]).splitlines() if not line.startswith("#|")]
    code = "\n".join(lines).strip()
    if not code or said.get("echo") is False:
        return ""
    block = fenced(code, "python")
    if not said.get("code-fold"):
        return block
    state = " open" if said["code-fold"] == "show" else ""
    summary = f"<summary>{said.get('code-summary', 'Code')}</summary>"
    return f"<details{state}>\n{summary}\n\n{block}\n\n</details>"


def stream_text(output) -> str:
    "What a person saw of a stream: no colour codes, of a progress bar its last state."
    lines = ANSI_ESCAPE.sub("", text(output["text"])).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines).strip("\n")


def output_markdown(output, said, show_rich) -> str:
    "One output; `show_rich(data, said)` shows what is neither Markdown nor plain text."
    if output["output_type"] == "stream":
        return fenced(stream_text(output), "text")
    if output["output_type"] == "error":
        return fenced(f"{output['ename']}: {output['evalue']}", "text")
    data = output["data"]
    if "text/markdown" in data:
        return text(data["text/markdown"])
    if "image/png" in data or "text/html" in data:
        return show_rich(data, said)
    return fenced(text(data["text/plain"]), "text")


def cell_markdown(cell, show_rich) -> str:
    "One cell: prose as it stands, code and outputs as the directives say, raw cells not at all."
    if cell["cell_type"] == "markdown":
        return text(cell["source"])
    said = directives(cell)
    if (
        cell["cell_type"] == "raw"
        or said.get("include") is False
        or any(name in said for name in HIDING)
    ):
        return ""
    outputs = cell["outputs"] if said.get("output") is not False else []
    return blocks(
        [
            code_markdown(cell, said),
            *(output_markdown(output, said, show_rich) for output in outputs),
        ]
    )


def blocks(parts) -> str:
    "The parts that are not empty, with an empty line between two."
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())


def notebook_markdown(cells, show_rich) -> str:
    "The cells as one Markdown text."
    return blocks(cell_markdown(cell, show_rich) for cell in cells) + "\n"
