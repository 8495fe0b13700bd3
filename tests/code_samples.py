"""Small source trees for the tests of the code corpus and the code encoder."""

SOURCES = {
    "python": (
        "m.py",
        'class A:\n    @wrap\n    def load(self, path):\n        """Load a table from a path.\n\n        More.\n        """\n        table = read(path)\n        return table\n',
    ),
    "java": (
        "M.java",
        "class A {\n  /** Adds two numbers.\n   * @param a first\n   */\n  @Override public int add(int a, int b) { int sum = a + b; return sum; }\n}\n",
    ),
    "javascript": (
        "m.js",
        "/** Adds two numbers. */\nexport function add(aa, bb) { return aa + bb; }\n// not a doc\n\nconst twice = (xx) => { return xx + xx; };\nlist.map(function (y) { return y; });\n",
    ),
    "go": ("m.go", "package m\n// Add adds two numbers,\n// slowly.\nfunc Add(a int) int { return a }\n"),
    "c_sharp": (
        "M.cs",
        'class A {\n  /// <summary>\n  /// Adds two numbers.\n  /// </summary>\n  /// <param name="a">x</param>\n  public int Add(int a) { return a; }\n}\n',
    ),
    "cpp": ("m.cpp", "// Adds two numbers.\ntemplate <class T> T add(T a) { return a; }\nint declared(int x);\n"),
    "ruby": ("m.rb", "class A\n  # Adds two numbers.\n  def add(a)\n    a\n  end\nend\n"),
    "php": ("m.php", "<?php\n/** Adds two numbers.\n * @return int */\nfunction add($aa) { return $aa + $aa; }\n"),
}
"""Language -> file name and text: one documented function each, with traps around it."""

VERBS = ("load", "save", "parse", "count", "merge", "split", "find", "sort", "join", "check", "print", "close")
NOUNS = ("table", "image", "date", "graph", "token", "list", "socket", "matrix", "colour", "record", "packet", "user")


def write_repositories(root, repositories=3, files=4, functions=3):
    """Repositories of made-up Python functions whose names and documentation go together."""
    number = 0
    for r in range(repositories):
        for f in range(files):
            texts = []
            for _ in range(functions):
                verb, noun = VERBS[number % len(VERBS)], NOUNS[(number // len(VERBS) + number * 5) % len(NOUNS)]
                texts.append(
                    f'def {verb}_{noun}_{number}({noun}_item, limit):\n    """{verb.title()} the {noun} number {number} for repository {r}."""\n'
                    f"    result = {noun}_{r}({verb!r}, {noun}_item)\n    for step in range(limit):\n        result = {verb}(result, step + {number})\n"
                    f"    return result\n"
                )
                number += 1
            folder = root / f"repo{r}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"module{f}.py").write_text("\n\n".join(texts))
    return root
