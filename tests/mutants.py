"""Mutants of a module: its source with one sign, comparison, constant, default or axis changed."""

import ast
import bisect
import io
import itertools
import re
import tokenize
from typing import NamedTuple

OPERATORS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*", "&": "|", "|": "&", "@": None,
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
    "in": "not in", "not in": "in", "and": "or", "or": "and",
}  # fmt: skip
OPPOSITES = [
    ("minimum", "maximum"), ("min", "max"), ("argmin", "argmax"), ("any", "all"), ("floor", "ceil"),
    ("cummin", "cummax"), ("nanmin", "nanmax"), ("cos", "sin"), ("zeros", "ones"), ("zeros_like", "ones_like"),
]  # fmt: skip
NAMES = dict(itertools.chain.from_iterable(((one, other), (other, one)) for one, other in OPPOSITES))
AXES = ("axis", "axes")


class Mutant(NamedTuple):
    """One change of one module.

    Attributes:
        module: Path of the module below the project's folder, with forward slashes.
        scope: Dotted name of the function or class that the change is in; empty for the module itself.
        number: Line number, from 1.
        before: The line, without the spaces around it.
        after: What becomes of the line.
        start: Offset of the first byte that is replaced in the source.
        end: Offset behind the last one.
        text: What stands there instead.
    """

    module: str
    scope: str
    number: int
    before: str
    after: str
    start: int
    end: int
    text: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What an entry of the list of equivalent mutants names, which does not change with other lines."""
        return self.module, self.scope, self.before, self.after

    def __str__(self) -> str:
        return f"{self.module}:{self.number} {self.scope}\n    - {self.before}\n    + {self.after}"


def mutants_of(module: str, source: bytes) -> list[Mutant]:
    """Returns every mutant of a module, in the order of its source.

    Not changed are annotations, docstrings, texts, imports, decorators, assertions, and what an error says.
    """
    visitor = _Visitor(module, source)
    visitor.visit(ast.parse(source))
    return sorted(visitor.found, key=lambda mutant: (mutant.start, mutant.end, mutant.text))


def mutated(source: bytes, mutant: Mutant) -> bytes:
    """Returns the source with the change."""
    return source[: mutant.start] + mutant.text.encode() + source[mutant.end :]


class _Visitor(ast.NodeVisitor):
    """Collects mutants of a syntax tree; changes are made in the text, so that all else stays as it is."""

    def __init__(self, module: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._module, self._source = module, source
        self._starts = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        self._scope: list[str] = []
        self._choices: list[list[str]] = [
            [element.value for element in node.slice.elts]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == "Literal"
            and isinstance(node.slice, ast.Tuple)
            and all(isinstance(element, ast.Constant) for element in node.slice.elts)
        ]

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _add(self, start: int, end: int, text: str) -> None:
        number = bisect.bisect_right(self._starts, start)
        first = self._starts[number - 1]
        last = self._source.find(b"\n", end)
        last = len(self._source) if last < 0 else last
        before = self._source[first:last].decode()
        after = (self._source[first:start] + text.encode() + self._source[end:last]).decode()
        lines = (" ".join(each.split()) for each in (before, after))
        self.found.append(Mutant(self._module, ".".join(self._scope), number, *lines, start, end, text))

    def _operator(self, start: int, end: int) -> None:
        """Changes the operator between two operands."""
        gap = self._source[start:end].decode()
        # Parentheses of the operands, comments and line ends may stand beside it.
        gap = re.sub(r"#[^\n]*|[()\\\n]", lambda match: " " * len(match[0].encode()), gap)
        tokens = [
            token for token in tokenize.generate_tokens(io.StringIO(gap.strip()).readline) if token.string.strip()
        ]
        other = OPERATORS.get(" ".join(token.string for token in tokens))
        if other is not None:
            place = start + len(gap) - len(gap.lstrip())
            self._add(place, place + tokens[-1].end[1], other)

    # What is not changed.

    def visit_Import(self, node: ast.Import) -> None:
        pass

    visit_ImportFrom = visit_Raise = visit_Assert = visit_JoinedStr = visit_Import  # noqa: N815

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id[:1].isupper()):  # else it is a type
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # of `zip`, which only says what is equally long
            self.generic_visit(node)

    # Where a change is.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope.append(node.name)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self._text(default)
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    # What is changed.

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = (ast.JoinedStr, ast.Constant)
        if isinstance(node.op, ast.BitOr) and not self._scope:
            return  # a union of types
        if not any(isinstance(side, texts) and not _number(side) for side in (node.left, node.right)):
            self._operator(self._span(node.left)[1], self._span(node.right)[0])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        start, end = self._span(node.target)[1], self._span(node.value)[0]
        gap = self._source[start:end].decode()
        word = gap.strip().removesuffix("=")
        if OPERATORS.get(word) is not None and not isinstance(node.value, ast.JoinedStr):
            place = start + gap.index(word)
            self._add(place, place + len(word), OPERATORS[word])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in itertools.pairwise([node.left, *node.comparators]):
            self._operator(self._span(left)[1], self._span(right)[0])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in itertools.pairwise(node.values):
            self._operator(self._span(left)[1], self._span(right)[0])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if (
            isinstance(node.op, ast.USub)
            and isinstance(node.operand, ast.Constant)
            and isinstance(node.operand.value, int)
        ):
            # An axis or an index from the end; from the beginning it would often be the same.
            self._add(*self._span(node), str(-node.operand.value - 1))
            return
        start, end = self._span(node)[0], self._span(node.operand)[0]
        self._add(start, end - (self._source[start:end].count(b"(")), "")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "reshape":
            node.args = [each for each in node.args if ast.unparse(each) != "-1"]  # NumPy takes any negative number
        reduces = isinstance(node.func, ast.Attribute) and node.args[:1]
        for axis in (*(keyword.value for keyword in node.keywords if keyword.arg in AXES), *(reduces or ())):
            if isinstance(axis, ast.Tuple) and len(axis.elts) > 1 and all(map(_number, axis.elts)):
                self._add(*self._span(axis), f"({ast.unparse(axis.elts[-1])},)")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in NAMES:
            end = self._span(node)[1]
            self._add(end - len(node.attr), end, NAMES[node.attr])
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in ("min", "max", "any", "all"):
            self._add(*self._span(node), NAMES[node.id])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(*self._span(node), str(not node.value))
        elif isinstance(node.value, int):
            self._add(*self._span(node), str(node.value + 1 if node.value < 10 else node.value // 2))
        elif isinstance(node.value, float):
            value = node.value / 2 if node.value >= 1e-3 else 1000 * node.value
            self._add(*self._span(node), repr(value or 1.0))

    def _text(self, node: ast.expr) -> None:
        """A default that is one of several texts becomes the next one of them."""
        for choices in self._choices:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in choices:
                other = choices[(choices.index(node.value) + 1) % len(choices)]
                self._add(*self._span(node), f'"{other}"')


def _number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _number(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)
