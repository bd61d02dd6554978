"""Random expressions of the template language, from everything that it has; run by a Python with
jinja2, which leaves out those that it cannot evaluate or whose text depends on addresses."""
import random

VARIABLES = {
    "s": "Hello World", "u": "Grüße 東京 🚀", "w": "  a b\tc \n", "e": "", "n": 3, "m": -7, "f": 2.5,
    "t": True, "o": None, "l": [3, 1, 2], "g": ["b", "A", "c", ""],
    "r": [{"a": 1, "b": "x", "c": {"d": [1, 2]}}, {"a": 2, "b": "Y"}, {"b": None}],
    "d": {"k": "v", "items": 1, "a": {"b": [1, {"c": None}]}, "é": 1.0}, "h": "<a href='x'>&</a>",
}
LITERALS = ("1", "0", "-2", "3.0", "0.1", "12345.678", "'x'", "''", '"a\\nb"', "'é'", "true", "none", "[]",
            "[1, 'a', none]", "{'a': 1, 'b': [true]}", "(1, 2)", "' '", "10")
METHODS = ("strip()", "lstrip()", "rstrip('o d')", "split()", "split('o')", "rsplit('o', 1)", "upper()",
           "title()", "capitalize()", "startswith('H')", "endswith(('x', 'd'))", "replace('o', '0', 1)",
           "replace('', '-')", "find('o')", "rfind('o')", "count('o')", "splitlines()", "items()|list",
           "get('a')", "get('zz', 5)", "index(1)", "join(['a', 'b'])", "isdigit()", "partition('o')",
           "zfill(8)", "center(9, '*')", "removeprefix('He')", "swapcase()", "isalpha()")
FILTERS = ("trim", "length", "upper", "title", "default('D', true)", "first", "last", "list", "join('-')",
           "tojson", "tojson(indent=2)", "tojson(true)", "tojson(sort_keys=true)", "int", "float",
           "string", "dictsort", "dictsort(by='value')", "safe", "escape", "reverse|list", "sort",
           "sort(reverse=true)", "unique|list", "abs", "round(1)", "round(2, 'floor')",
           "map('upper')|list", "map(attribute='a')|list", "select|list", "select('string')|list",
           "selectattr('a', 'equalto', 1)|list", "rejectattr('b', 'none')|list", "indent(2, true)",
           "replace('o', '0')", "sum", "min", "max", "batch(2)|list", "sort(attribute='b')")
TESTS = ("defined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float",
         "boolean", "true", "equalto(1)", "in [1, 2, 'x']", "odd", "divisibleby 2", "lower", "gt 2")
SLICES = ("0", "-1", "1:", "::-1", ":2", "-2:", "::2", "5", '"a"', '"items"', "3:1:-1")


class RandomTemplates:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, choices):
        return self.random.choice(choices)

    def name(self):
        return self.pick((*VARIABLES, "missing"))

    def expression(self, depth):
        if depth == 0:
            return self.pick((self.name(), self.name(), self.pick(LITERALS)))
        a, b, c = (self.expression(depth - 1) for _ in range(3))
        return self.pick((
            f"({a} {self.pick(('+', '-', '*', '/', '//', '%'))} {b})", f"{a} ~ {b} + {c}",
            f"({a} {self.pick(('==', '!=', '<', '<=', 'in', 'not in'))} {b})",
            f"({a} {self.pick(('and', 'or'))} {b})", f"(not {a})", f"({a})|{self.pick(FILTERS)}",
            f"({a})|{self.pick(FILTERS)}", f"({a} is {self.pick(('', 'not '))}{self.pick(TESTS)})",
            f"{self.name()}.{self.pick(METHODS)}", f"{self.name()}.{self.pick(METHODS)}",
            f"{self.name()}[{self.pick(SLICES)}]", f"({a} if {b} else {c})", f"[{a}, {b}]",
            f"{{'k': {a}, 'q': {b}}}"))

    def statement(self):
        """An expression, alone or within the statements, with white space to be taken or left."""
        shown = "{{ " + self.expression(self.random.randrange(3)) + self.pick((" }}", " -}}\n", " }}\n"))
        begin, end = self.pick(("{% ", "{%- ", "\n  {% ", "{%+ ")), self.pick((" %}", " -%}", " %}\n"))
        condition = self.expression(1)
        block = {
            "if": f"{condition}{end}{shown}{begin}else{end}x{begin}endif",
            "for": f"x in {self.name()}{end}{{{{ loop.index }}}}{{{{ x }}}}{shown}{begin}endfor",
            "filter": f"upper{end}{shown}{begin}endfilter",
            "macro": f"p(z){end}{{{{ z }}}}{shown}{begin}endmacro",
        }
        kind = self.pick((None, None, None, *block))
        if kind is None:
            return shown
        call = "{{ p(1) }}" if kind == "macro" else ""
        return f"{begin}{kind} {block[kind]}{end}{call}"


def working_templates(count, seed, render):
    """`count` statements that `render` can evaluate."""
    source = RandomTemplates(seed)
    found = []
    while len(found) < count:
        statement = source.statement()
        try:
            text = render(statement, VARIABLES)
        except Exception:  # whatever Python raises there
            continue
        if " at 0x" not in text and "<built-in" not in text and "Markup(" not in text:
            found.append(statement)
    return found
