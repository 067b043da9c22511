# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Finds function bodies in C++ text by their braces: no parser, good enough for a length check.

functions(lines) yields Function(first, last, conditionals): the line of the opening brace, of the
closing one, and of every #if between them.
"""
import re

LITERAL = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.DOTALL)
# Highway compiles one file once per target and says so in the middle of functions.
IDIOM = re.compile(r"HWY_")


class Function:
    def __init__(self, first):
        self.first, self.last, self.conditionals = first, first, []

    @property
    def lines(self):
        return self.last - self.first + 1


def blank(match):
    """A literal or comment without its text, on as many lines as before."""
    quotes = '""' if match.group(0)[0] in "\"'R" else " "
    return quotes + "\n" * match.group(0).count("\n")


def opens(head, inside):
    """What a "{" after the text `head` opens: "scope", "function", "list" or "block"."""
    head = head.strip()
    if inside == "block":
        return "block"
    if re.match(r"(inline\s+)?namespace\b|extern\b\s*\"", head):
        return "scope"
    if re.match(r"(template\s*<.*>\s*)?(typedef\s+)?(class|struct|union|enum)\b", head, re.DOTALL):
        return "scope"
    # Member initializers: "Name(int a) : a_{a}, b_{1} {": only the last brace opens the body.
    if re.search(r"\)\s*(noexcept\s*)?:[^:].*[\w>]$", head, re.DOTALL):
        return "list"
    if "(" in head and not re.search(r"=\s*$", head):
        return "function"
    return "list"


def functions(lines):
    text = LITERAL.sub(blank, "\n".join(lines))
    stack, head, number, function, continued = [], "", 0, None, False
    for line in text.split("\n"):
        number += 1
        directive = continued or line.lstrip().startswith("#")
        if directive:
            if function and re.match(r"\s*#\s*if", line) and not IDIOM.search(line):
                function.conditionals.append(number)
            continued = line.rstrip().endswith("\\")
            continue
        for char in line + " ":
            if char == "{":
                kind = opens(head, "block" if function else "scope")
                stack.append((kind, head))
                if kind == "function":
                    function = Function(number)
                head = ""
            elif char == "}" and stack:
                kind, before = stack.pop()
                head = before + "{}" if kind == "list" else ""
                if kind == "function":
                    function.last = number
                    yield function
                    function = None
            elif char == ";":
                head = ""
            else:
                head += char
            if re.match(r"\s*(public|private|protected)\s*:$", head):
                head = ""
