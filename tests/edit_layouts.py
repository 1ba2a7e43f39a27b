"""Layouts of pyproject.toml modelled on what projects write: the text by a name that says what is odd about it."""

# ruff: noqa: E501  # some of them are odd by being long

from typing import Final

HEAD: Final = '[project]\nname = "demo"\nversion = "1"\ndependencies = ["numpy"]\n'

LAYOUTS: Final[dict[str, str]] = {
    "uv init": """\
[project]
name = "demo"
version = "0.1.0"
description = "Add your description here"
readme = "README.md"
requires-python = ">=3.11"
dependencies = []
""",
    "no dependencies key": '[project]\nname = "demo"\nversion = "1"\n',
    "only a header": "[project]\n",
    "header with a comment": '[project] # metadata\n# about the name\nname = "demo" # the name\n\n# the end\n',
    "multi-line dependencies": """\
[project]
name = "demo"
dependencies = [
    "numpy>=2",  # arrays
    # plotting
    "matplotlib",
]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
""",
    "no trailing comma": '[project]\nname = "demo"\ndependencies = [\n  "numpy",\n  "rich" # colours\n]\n',
    "closing bracket on the last item": '[project]\nname="demo"\ndependencies = ["numpy",\n                "rich"]\n',
    "several a line": '[project]\nname = "demo"\ndependencies = [\n  "a", "b",\n  "c", "d",\n]\n',
    "leading commas": '[project]\nname = "demo"\ndependencies = [\n    "a"\n  , "b"\n  , "c"\n]\n',
    "spaces inside brackets": '[project]\nname = "demo"\ndependencies = [ "numpy", "torch" ]\n',
    "one line with a trailing comma": '[project]\nname = "demo"\ndependencies = ["numpy", "torch",]\n',
    "tabs": '[project]\n\tname = "demo"\n\tdependencies = [\n\t\t"numpy",\n\t\t"torch>=2",\n\t]\n',
    "empty list with a comment": '[project]\nname = "demo"\ndependencies = [\n    # none yet\n]\n',
    "empty list over lines": '[project]\nname = "demo"\ndependencies = [\n]\n',
    "commented items": """\
[project]
name = "demo"
dependencies = [
    # the framework
    "torch==2.7.1", # keep in step with torchvision
    # "torchvision",
    "numpy",
    # last words
]
""",
    "literal strings and markers": """\
[project]
name = 'demo'
dependencies = [
  'torch>=2.4 ; sys_platform == "linux"',
  'torch>=2.2 ; sys_platform == "darwin"',
  "Torch_Vision[extra]>=0.19",
]
""",
    "multi-line strings": '''\
[project]
name = "demo"
description = """
[tool.uv.sources]
torch = "not this" # not a comment \\"""
"""
dependencies = ["numpy"]
readme = {text = \'\'\'
[[tool.uv.index]]
\'\'\', content-type = "text/plain"}
''',
    "a string that ends like a comment": '[project]\nname = \'demo\'\ndescription = """\n# not a comment"""\n[[tool.uv.index]]\nname = \'corp\'\nurl = \'https://example.com\'\nx = """\n\n# no"""\n[tool.uv.sources.torch]\nindex = \'corp\'\n',
    "contract": HEAD
    + """
[tool.uv.sources]
torch = [{ index = "pytorch-cu128", marker = "sys_platform == 'linux' or sys_platform == 'win32'" }]

[[tool.uv.index]]
name = "pytorch-cu128"
url = "https://download.pytorch.org/whl/cu128"
explicit = true
""",
    "contract with other spelling": HEAD
    + """
[[tool.uv.index]]
url = 'https://download.pytorch.org/whl/cu128/'
explicit=true
name = "pytorch-cu128"

[tool.uv.sources]
Torch = {marker='sys_platform == "linux"   or sys_platform=="win32"', index="pytorch-cu128"}
""",
    "old pin": HEAD
    + """
[tool.uv]
# managed by the team
default-groups = ["dev"]
[tool.uv.sources]
# the CUDA build
torch = { index = "pytorch-cu121" } # do not touch
torchvision = { index = "pytorch-cu121" }

# where it comes from
[[tool.uv.index]]
name = "pytorch-cu121"
url = "https://download.pytorch.org/whl/cu121"
# only for torch
explicit = true
# tail

# ruff
[tool.ruff]
line-length = 100
""",
    "index not explicit": HEAD
    + '[[tool.uv.index]]\nname = "pytorch-cu128"\nurl = "https://download.pytorch.org/whl/cu128"\n',
    "index explicitly not explicit": HEAD
    + '[[tool.uv.index]]\nname = "pytorch-cu128"\nexplicit = false # oops\nurl = "https://download.pytorch.org/whl/cu128"\n',
    "index inline": HEAD
    + """
[tool.uv]
index = [
  { name = "corp", url = "https://example.com/simple", default = true },
  {name="pytorch-cu121",url="https://download.pytorch.org/whl/cu121"} # CUDA
]
""",
    "index inline on one line": HEAD
    + '[tool.uv]\nindex = [{ name = "pytorch-cu128", url = "https://download.pytorch.org/whl/cu128" }]\n',
    "index inline and empty": HEAD + "[tool.uv]\nindex = []\nsources = {}\n",
    "tool inline": HEAD.replace("[project]", "tool = { uv = { package = false } }\n\n[project]"),
    "tool.uv inline": HEAD + '\n[tool]\nuv = {dev-dependencies = ["pytest"]}\n',
    "tool.uv inline with everything": HEAD
    + '\n[tool]\nuv = { sources = { torch = { index = "a" }, numpy.index = "b" }, index = [{ name = "a", url = "https://example.com/a" }, { name = "b", url = "https://example.com/b" }] }\n',
    "inline with dotted keys": HEAD + '\n[tool]\nuv = { sources.numpy.path = "../numpy", sources.torch.index = "a" }\n',
    "dotted in tool": HEAD
    + '\n[tool]\nuv.sources.torch = { index = "a" }\nuv.sources.numpy.path = "../numpy" # local\nuv.package = true\n',
    "dotted in tool.uv": HEAD
    + '\n[tool.uv]\nsources.torch.index = "a"\nsources."numpy".path = "../numpy"\nindex-strategy = "first-index"\n',
    "dotted at the root": 'project.name = "demo"\nproject.dependencies = ["numpy"]\ntool.uv.sources.torch = {index = "a"}\n\n[tool.ruff]\nline-length = 99\n',
    "project inline": 'project = { name = "demo", version = "1" }\n',
    "sub-table source": HEAD
    + '\n[tool.uv.sources.torch]\n# from the CUDA index\nindex = "pytorch-cu128"\n\n[tool.uv.sources.numpy]\npath = "../numpy"\n',
    "sub-table source alone": HEAD
    + '\n[tool.uv.sources.torch]\nindex = "pytorch-cu121"\n\n[tool.black]\nline-length = 88\n',
    "sources as an array of tables": HEAD
    + '\n[[tool.uv.sources.torch]]\nindex = "a"\nextra = "cpu"\n\n[[tool.uv.sources.torch]]\nindex = "b"\nextra = "cu128"\n',
    "quoted keys": HEAD + '\n["tool".\'uv\'."sources"]\n"torch" = { "index" = "a" }\n\'numpy\' = { path = "x" }\n',
    "escaped key": HEAD + '\n[tool.uv."sour\\u0063es"]\n"t\\u006Frch" = { index = "a" }\n',
    "spaces in headers": HEAD
    + '\n[ tool . uv . sources ]   # pins\n  torch   =   { index = "a" }\n\n[[ tool . uv . index ]]\n  name = "a"\n  url = "https://example.com/a"\n',
    "split tool.uv": """\
[tool.uv.sources]
numpy = { path = "../numpy" }

[tool.ruff]
line-length = 100

[tool.uv]
package = true

[project]
name = "demo"
dependencies = ["numpy"]

[[tool.uv.index]]
name = "corp"
url = "https://example.com/simple"

[tool.mypy]
strict = true

[tool.uv.workspace]
members = ["packages/*"]

[[tool.uv.index]]
name = "other"
url = "https://example.com/other"
""",
    "no blank lines": HEAD
    + '[tool.uv]\npackage = true\n[tool.uv.sources]\nnumpy = { path = "x" }\n[[tool.uv.index]]\nname = "corp"\nurl = "https://example.com/simple"\n[tool.ruff]\nline-length = 100\n',
    "comment glued to the next table": HEAD
    + '\n[tool.uv.sources]\nnumpy = { path = "x" }\n# settings of ruff\n[tool.ruff]\nline-length = 100\n',
    "trailing comment": HEAD + "\n[tool.uv]\npackage = true\n\n# vim: set ft=toml:\n",
    "many blank lines": "\n\n" + HEAD + "\n\n\n[tool.uv]\npackage = true\n\n\n\n[tool.ruff]\n\n\n",
    "extras": """\
[project]
name = "demo"
dependencies = ["numpy"]

[project.optional-dependencies]
CPU = ["torch>=2.6", "torchvision"]
cu126 = [
  "torch>=2.6",
  "torchvision>=0.21", # with torch
]
docs = ["sphinx"]

[tool.uv]
conflicts = [
  [
    { extra = "cpu" },
    { extra = "cu126" },
  ],
]

[tool.uv.sources]
torch = [
  # no GPU
  { index = "pytorch-cpu", extra = "cpu" },
  { index = "pytorch-cu126", extra = "cu126", marker = "sys_platform == 'linux'" }, # GPU
]
torchvision = [
  { index = "pytorch-cpu", extra = "cpu" },
  { index = "pytorch-cu126", extra = "cu126" },
]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "https://download.pytorch.org/whl/cpu"
explicit = true

[[tool.uv.index]]
name = "pytorch-cu126"
url = "https://download.pytorch.org/whl/cu126"
explicit = true
""",
    "groups": """\
[project]
name = "demo"
dependencies = ["torch"]

[dependency-groups]
dev = ["pytest", {include-group = "lint"}]
lint = ["ruff"]
gpu = [
  { include-group = "dev" },
  "torch[opt-einsum]>=2.6",
]

[tool.uv]
default-groups = "all"
conflicts = [[{ group = "gpu" }, { group = "Dev" }], [{ extra = "x", package = "member" }, { package = "member", extra = "y" }]]
prerelease = "if-necessary"
""",
    "extras under dotted project": 'project.name = "demo"\nproject.optional-dependencies.cpu = ["torch"]\n\n[tool.uv]\n',
    "hugging brackets": HEAD + '\n[tool.uv]\nconflicts = [[\n    { extra = "a" },\n    { extra = "b" },\n]]\n',
    "virtual": "[tool.uv.workspace]\nmembers = ['a']\n",
    "sources before everything": '[tool.uv.sources]\n\n[[tool.uv.index]]\nname = "corp"\nurl = "https://example.com/simple"\n\n'
    + HEAD,
    "arrays of tables elsewhere": HEAD
    + '\n[[tool.mypy.overrides]]\nmodule = "a.*"\n[tool.mypy.overrides.sub]\nx = 1\n\n[[tool.mypy.overrides]]\nmodule = "b"\n',
    "numbers and dates": HEAD
    + "\n[tool.x]\na = nan\nb = -inf\nc = 1_000\nd = 1979-05-27 07:32:00\ne = 1979-05-27T07:32:00Z # then\nf = [1.0, 2e3,]\ng = { h = true, i = [ ] }\n",
    "names in other alphabets": HEAD + '\n[tool."ümläut".\'ключ\']\n"日本" = "語 # ]" # ☃\n',
    "crlf": (HEAD + "\n[tool.uv]\npackage = true # yes\n").replace("\n", "\r\n"),
    "mixed line breaks": '[project]\r\nname = "demo"\r\ndependencies = [\r\n    "numpy",\n    "torch"\r\n]\r\n\n[tool.uv.sources]\ntorch = { index = "a" }\r\n',
    "mostly LF": '[project]\nname = "demo"\r\ndependencies = [\n    "numpy",\n]\n',
    "no final line break": HEAD.rstrip("\n"),
    "no final line break after a comment": HEAD + "# the end",
    "no final line break in a list": '[project]\nname = "demo"\ndependencies = [\n  "torch"\n]\n[tool.uv.sources]\ntorch = [\n { index = "a" } ]',
    "byte order mark": "\ufeff" + HEAD + "\n[tool.uv]\npackage = true\n",
    "byte order mark and nothing": "\ufeff",
    "byte order mark, crlf, no final line break": "\ufeff" + HEAD.replace("\n", "\r\n").rstrip(),
    "empty": "",
    "only comments": "# nothing here\n#yet",
}
