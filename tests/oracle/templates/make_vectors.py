#!/usr/bin/env python3
"""Write tests/text/template_vectors.json: templates over each feature, with what jinja2 makes of them.

usage: python make_vectors.py > tests/text/template_vectors.json       (jinja2 3.1.6, transformers 5.23.0; see reference.py)
"""
import copy, json, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reference import render

VARS = {"s": "Hello World", "u": "Ünï 東京 🎉 ß", "w": "  a  b\tc\n d ", "e": "", "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e16, "tiny": 1e-7,
        "t": True, "no": False, "nil": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "el": [], "d": {"b": 1, "a": 2, "C": 3}, "ed": {},
        "nest": {"x": {"y": [1, {"z": "deep"}]}}, "html": "<a href=\"x\">T&C's</a>", "num": " 42 ", "hex": "0x1F", "flt": "3.75e2",
        "people": [{"name": "Bob", "age": 30, "job": {"t": "x"}}, {"name": "alice", "age": 25, "job": {"t": "y"}}, {"name": "Bob", "age": 20}],
        "q": "it's \"q\"", "lines": "one\ntwo\r\nthree\n\n", "mixed": [1, "a", None, 2.0, True, [1], {"k": "v"}]}

ATOMS = ["s", "u", "w", "e", "n", "z", "neg", "f", "t", "no", "nil", "l", "ls", "el", "d", "ed", "missing", "(1, 2)", "()", "range(3)", "d.items()", "'x'|safe"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "list", "string", "tojson", "first", "last", "reverse|list", "sort", "unique|list",
           "int", "float", "abs", "round", "join('-')", "default('D')", "default('D', true)", "items|list", "dictsort", "min", "max", "sum", "safe", "e",
           "wordcount", "urlencode", "batch(2)|list", "slice(2)|list", "center(12)", "indent", "truncate(5)", "replace('o', '0')", "map('string')|list",
           "select|list", "reject|list", "pprint", "striptags", "count", "forceescape", "format(1)", "filesizeformat", "xmlattr", "wordwrap(4)"]
TESTS = ["defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping", "iterable", "sequence", "callable",
         "odd", "even", "lower", "upper", "escaped", "divisibleby(2)", "sameas(none)", "in([7, 's', 0])", "eq(7)", "ne(0)", "lt(5)", "ge(0)", "filter", "test"]

EXPRESSIONS = r"""
1 + 2 * 3 ** 2
2 ** 3 ** 2
-2 ** 2
(-2) ** 2
2 ** -1
2 ** 0.5
7 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
7.5 // 2
-7.5 % 2
7.5 % -2
1 / 3
10 / 5
0.1 + 0.2
1e3
1e16
123456789012345678
1_000_000
0x1F + 0b11 + 0o17
1.5e-7
1e22
1e21 + 1
3.0
100000000000000000.0
true + 1
true * 'ab'
'ab' * 3
3 * 'ab'
[1] * 2
[1] + [2]
(1,) + (2,)
'a' + 'b' 'c'
'a' ~ 1 ~ none ~ true ~ 1.0 ~ missing
1 ~ 2 + 3
1 + 2 ~ 3
-1 ~ 2
not true or true
not (true or true)
1 and 0 or 'x'
'' or none or missing or 0
1 if true else 2
1 if false else 2
1 if false
(1 if false) is undefined
1 if true else 2 if false else 3
1 < 2 < 3
1 < 3 < 2
1 == 1.0 == true
'a' < 'b'
'a' < 1
[1, 2] < [1, 3]
(1, 2) == (1, 2)
[1, 2] == (1, 2)
{'a': 1} == {'a': 1.0}
none == none
missing == other_missing
missing == none
1 in [1, 2]
1.0 in [1, 2]
'a' in 'abc'
1 in 'abc'
'a' in {'a': 1}
'a' not in ['b']
not 'a' in ['a']
none in [none]
[1] in [[1]]
[1] in {'a': 1}
'x' in missing
1 in 5
s[0]
s[-1]
s[99]
s[1:4]
s[:-3]
s[::-1]
s[::2]
s[10:0:-3]
s[-3:]
s[5:100]
s['0']
u[4:6]
u[::-1]
u[-1]
l[0]
l[-1]
l[5] is defined
l[1:]
l[::-1]
l['a'] is defined
l[1.0] is defined
l[true]
(1, 2, 3)[1:]
range(10)[2:8:3]
range(5)[1]
range(10)[::-1]
d['a']
d.a
d.zz is defined
d.zz.y
d['zz']
d.items is callable
d['items'] is callable
d.keys()|list
d.values()|list
d.items()
d.keys()
d.values()
d.get('a')
d.get('zz')
d.get('zz', 5)
d.get
d.pop('a')
d.pop is defined
d.update({'x': 1})
d.copy()
l.append(4)
l.append
l.index(1)
l.index(9)
l.count(3)
l.sort()
nest.x.y[1].z
nest['x']['y'][1]['z']
nest.x.y.1.z
nest.x.y.5
none.x is defined
none.x
none.x.y
missing.x
missing['x']
missing()
missing + 1
-missing
missing < 1
missing|length
missing|list
missing|join
missing|upper
missing|int
missing|tojson
missing.items()
5.x
n.x is defined
n()
'%s' % 1
'%s and %s' % (1, 'b')
'%d%%' % 50
'%5d|%-5d|%05d|%+d' % (42, 42, 42, 42)
'%.2f %e %g %G' % (3.14159, 31415.9, 0.00001, 1e20)
'%x %X %o %#x' % (255, 255, 8, 255)
'%r %s' % ('a', 'a')
'%(a)s-%(b)d' % {'a': 1, 'b': 2}
'%s' % [1]
'%s' % missing
'%d' % 'a'
'%s %s' % 1
'a' % 1
'%c%c' % (65, 'b')
'%10s|%-10s|%.2s' % ('abc', 'abc', 'abc')
'%5.1f|' % 2.25
'%*d' % (5, 3)
'{}-{}'.format(1, 'b')
'{1}{0}'.format('a', 'b')
'{x} {y[0]} {z.b}'.format(x=1, y=[2], z={'b': 3})
'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')
'{:*^9}'.format('mid')
'{:05d} {:+d} {:x} {:#b} {:,}'.format(42, 42, 255, 5, 1234567)
'{:.2f} {:e} {:g} {:%}'.format(3.14159, 1234.5, 0.0001, 0.25)
'{:8.3f}|{:<8.3f}|'.format(3.14159, 2.5)
'{!r} {!s}'.format('a', 'b')
'{{}} {}'.format(1)
'{:{w}}|'.format('a', w=4)
'{}'.format(none)
'{:>6}'.format(true)
'{:5}|'.format(2.0)
'{'.format(1)
'}'.format(1)
'{0} {}'.format(1, 2)
'{a}'.format(1)
'{:d}'.format('x')
'{}'.format([1, 'a'])
s.upper()
s.lower()
s.title()
"they're bill's"|title
"they're bill's".title()
s.swapcase()
s.capitalize()
u.upper()
u.lower()
'ΑΣ ΟΔΟΣ'.lower()
s.strip('Hd')
w.strip()
w.lstrip()
w.rstrip()
'xxaxx'.strip('x')
'xyaxy'.strip('yx')
s.split()
w.split()
w.split(' ')
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
' a b  c '.split(none, 1)
' a b  c '.rsplit(none, 1)
'a'.split('')
'a b'.split(maxsplit=0)
''.split()
''.split(',')
lines.splitlines()
lines.splitlines(true)
'a\x0bb\x85c\u2028d'.splitlines()
s.startswith('He')
s.startswith(('x', 'H'))
s.endswith('ld')
s.endswith(('x', 'ld'))
s.startswith('W', 6)
s.startswith('')
s.startswith(1)
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('W')
s.index('zz')
s.count('l')
s.count('')
s.count('o', 5, 20)
u.find('🎉')
s.replace('o', '0')
s.replace('o', '0', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'-'.join(['a', 'b'])
'-'.join([1, 2])
'-'.join('abc')
'-'.join({'a': 1, 'b': 2})
'42'.zfill(5)
'-42'.zfill(5)
'a'.ljust(3, '.')
'a'.rjust(3, '.')
'ab'.center(5, '.')
'abc'.center(6, '.')
'abc'.removeprefix('a')
'abc'.removesuffix('bc')
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('x')
'a\tb'.expandtabs(4)
'123'.isdigit()
'12a'.isdigit()
'abc'.isalpha()
'ab1'.isalnum()
'  '.isspace()
'ABC'.isupper()
'abc'.islower()
'Abc Def'.istitle()
'²'.isdigit()
'²'.isdecimal()
''.isalpha()
'é'.isalpha()
'abc'.isidentifier()
s.nope is defined
s.nope()
s.__class__
s.__class__ is defined
[1, 2.0, 'a', none, true, {'k': (1,)}]
('a',)
()
{}
{'a': {'b': []}}
{1: 'a', 1.0: 'b', true: 'c'}
{none: 1, (1, 2): 2}
{[1]: 2}
["it's", 'say "hi"', 'both \' and "']
['\n\t\\', '\x00\x7f', 'é\u200b\ufeff', '\U0001f600']
'a\'b'
"a\"b\\n"
'\q\d'
'\x41\u00e9\101'
'line\
continued'
'tab\there'
mixed
mixed|tojson
d|tojson
d|tojson(indent=2)
nest|tojson(indent=4)
nest|tojson(indent='--')
[]|tojson(indent=2)
{}|tojson(indent=2)
d|tojson(sort_keys=true)
d|tojson(separators=(',', ':'))
d|tojson(separators=(',', ': '), indent=1)
u|tojson
u|tojson(ensure_ascii=true)
q|tojson
html|tojson
'\x00\x1f\x7f\u2028'|tojson
'\x00\x1f\x7f\u2028'|tojson(true)
[1.0, 1e16, 1e-7, 0.1, -0.0, 1e400]|tojson
{1: 'a', none: 'b', true: 'c', 2.5: 'd'}|tojson
{(1, 2): 'a'}|tojson
range(3)|tojson
(1, 2)|tojson
namespace(a=1)|tojson
2.5|round
3.5|round
-2.5|round
2.567|round(2)
2.565|round(2)
1234|round(-2)
1250|round(-2)
2.1|round(0, 'ceil')
2.9|round(0, 'floor')
2.123|round(2, 'ceil')
2|round(0, 'ceil')
2.5|round(method='x')
42.7|int
'42'|int
' 42 '|int
'42.9'|int
'abc'|int
'abc'|int(5)
'0x1F'|int(base=16)
'1010'|int(base=2)
none|int
none|int(9)
true|int
'1_000'|int
'1e3'|int
[]|int
'3.5'|float
'x'|float
'x'|float(1.5)
'inf'|float
'nan'|float
' 1e2 '|float
5|float
-5|abs
-5.5|abs
true|abs
l|sort
l|sort(reverse=true)
ls|sort
ls|sort(case_sensitive=true)
ls|sort(reverse=true)
mixed|sort
people|sort(attribute='age')|map(attribute='age')|list
people|sort(attribute='name,age')|map(attribute='age')|list
people|map(attribute='name')|list
people|map(attribute='zz', default='?')|list
people|map(attribute='job.t')|list
people|map(attribute='job.t', default='-')|list
people|selectattr('age', 'gt', 22)|map(attribute='name')|join(',')
people|rejectattr('age', 'gt', 22)|list|length
people|selectattr('job')|list|length
people|selectattr('name', 'equalto', 'Bob')|list|length
people|groupby('name')|map('first')|list
people|groupby('name')
people|groupby('job.t', default='none')|map(attribute='grouper')|list
people|sum(attribute='age')
people|map('tojson')|join(' ')
people|join(', ', attribute='name')
people|unique(attribute='name')|map(attribute='age')|list
people|min(attribute='age')
people|max(attribute='age')
people|first
people|attr('x') is defined
d|attr('a') is defined
d|attr('items') is defined
[1, 2, 3, 4]|select('odd')|list
[1, 2, 3, 4]|reject('odd')|list
[1, 2, 3, 4]|select('divisibleby', 2)|list
['a', none, '', 0]|select|list
['a', none]|select('none')|list
['a', 'b']|map('upper')|list
['a', 'b']|map('replace', 'a', 'c')|list
[' a ']|map('trim')|join
['a']|map('nofilter')|list
[1]|select('notest')|list
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 'x')|list
[1, 2, 3, 4, 5]|slice(3)|list
[1, 2, 3, 4, 5]|slice(3, 'x')|list
'abc'|list
'abc'|reverse
[1, 2]|reverse|list
d|list
d|length
d|dictsort
d|dictsort(true)
d|dictsort(false, 'value')
d|dictsort(reverse=true)
d|items|list
missing|items|list
5|items
[1, 2]|sum
[1.5, 2]|sum
['a']|sum
[[1], [2]]|sum(start=[])
[]|sum
[]|max is undefined
[]|first is undefined
''|last is undefined
'abc'|first ~ 'abc'|last
['B', 'a', 'C']|min
['B', 'a', 'C']|max
['a', 'A', 'b']|unique|list
['a', 'A', 'b']|unique(true)|list
[1, 1.0, true]|unique|list
[[1]]|unique|list
[1, 2]|join
[1, none, true, 2.0]|join('|')
'abc'|join('-')
{'a': 1, 'b': 2}|join('-')
5|join
html|e
html|e|e
html|safe|e
html|forceescape
html|safe ~ '<b>'
(html|safe) + '<b>'
'<b>' + (html|safe)
html|striptags
'a <!-- x --> b  <i>c</i>'|striptags
s|indent
lines|indent
lines|indent(2, true)
lines|indent('> ', first=true, blank=true)
''|indent(2, true)
5|indent
s|truncate(8)
s|truncate(8, true)
s|truncate(8, leeway=0)
s|truncate(8, true, '..', 0)
s|truncate(2)
'foo bar baz qux'|truncate(9)
s|center(20)
s|wordcount
'a-b c_d'|wordcount
'The quick brown fox jumped'|wordwrap(10)
'Long-hyphenated words_and_underscores'|wordwrap(8)
'abcdefghij'|wordwrap(4)
'abcdefghij kl'|wordwrap(4, false)
'a b\n\nc d e'|wordwrap(3, wrapstring='/')
'a b/c?d=e&f'|urlencode
{'a b': 'c/d', 'e': 1}|urlencode
[('a', 1), ('b', 'x y')]|urlencode
u|urlencode
{'class': 'a b', 'id': none, 'x': '<'}|xmlattr
{'class': 'a'}|xmlattr(false)
{'a b': 1}|xmlattr
1|filesizeformat
999|filesizeformat
1000|filesizeformat
1500000|filesizeformat
1536|filesizeformat(true)
'2000'|filesizeformat
'%s-%s'|format('a', 1)
'%(a)s'|format(a=5)
'%s'|format(1, a=2)
missing|default('x')
none|default('x')
none|default('x', true)
''|default('x', boolean=true)
missing|d('y')
missing|default
5 is divisibleby 5
5 is divisibleby(2)
'a' is string and 1 is not string
1 is odd
2 is even
'a' is odd
1.5 is odd
1 is sameas 1
none is none
true is boolean
1 is true
true is sameas true
[] is sequence
{} is sequence
'a' is sequence
5 is sequence
range(3) is sequence
d.items() is sequence
d.items() is iterable
missing is iterable
missing is sequence
missing is callable
range is callable
loop is defined
'a' is in 'abc'
1 is in [1]
5 is eq 5
5 is == 5
5 is gt 3
5 is lessthan 3
'upper' is filter
'nofilter' is filter
'odd' is test
5 is not none
5 is not divisibleby 2
'ABC' is upper
1 is number and true is number and 1.5 is number
1 is integer
true is integer
1.0 is float
x is defined if true else false
range(5)|list
range(1, 10, 3)|list
range(5, 0, -2)|list
range(0)
range(1, 5)
range(1, 5, 2)
range(200000)|length
range(3)|last
range(2.0)
range()
range(1, 2, 0)
3 in range(5)
6 in range(0, 10, 2)
6.0 in range(0, 10, 2)
dict(a=1, b=2)
dict([('a', 1)], b=2)
dict({'x': 1})
dict(1)
namespace(a=1).a
namespace({'a': 1}, b=2).b
namespace(a=1)
namespace().x is defined
namespace(_x=1)
joiner(', ')()
cycler('a', 'b').next()
cycler('a', 'b').current
cycler()
raise_exception('boom')
strftime_now('%Y-%m-%d %H:%M:%S %A %B %d %j %y %b %a %I %p %%')
strftime_now('%-d/%-m %e|%f|%z|%Z|')
lipsum is defined
upper('a')
d|tojson|safe
nofilter is defined
(d|items)|length
d.items()|length
(l|map('string'))|first
l|map('string') is sequence
(l|select('odd'))|list|length
(l|map('int')) and 'truthy'
[]|map('int') and 'truthy'
{'a': 1}.a
'abc'[1]
'abc'.1
[1, 2, 3].1
[[1, 2], [3]]|map('length')|list
[[1, 2], [3]]|map('sum')|list
[{'a': {'b': 1}}, {}]|map(attribute='a')|list
{'a': 1, **{'b': 2}}
dict(**{'b': 2})
'{} {}'.format(*['a', 'b'])
'{x}'.format(**{'x': 1})
range(*[1, 4])|list
[1, 2,]
{'a': 1,}
(1,)
[1 2]
{a: 1}
{'a' 1}
foo(
a b
1 +
'abc
3 is
x is y is z
{{ 1 }}
a.b.
[1, 2][
9223372036854775807
9223372036854775807 - 1
-9223372036854775807
1 == '1'
'a' == 'a'
1 != 2
1 >= 1 <= 1
none < 1
[1] < 'a'
1 < 1.5
9007199254740993 == 9007199254740992.0
1.0 == 1
-0.0
0.0 == -0.0
1e308 * 10
1 // 0
1 / 0
1 % 0
1.0 // 0
not missing
not none
not []
not 'a'
u|length
u|upper|length
w|trim
w|trim|length
'xaxx'|trim('x')
5|trim
none|trim
[1]|trim
u|first
u|last
u|list|length
u|reverse
u|center(20)
""" .strip("\n")

TEMPLATES = [
    # whitespace control
    "  {% if true %}\n    a\n  {% endif %}\n b", "  {%- if true -%}\n    a\n  {%- endif -%}\n b", "a\n  {%+ if true %}\n x{% endif %}\n", "a {% if true +%}\n b{% endif %}",
    "a {{- 1 -}} b {{ 2 }} c", "x\n  {{ 1 }}\n  {{- 2 }}\n{{ 3 -}}\n\n y", "{# c #}\na", "  {# c #}\n  b\n", "a {#- c -#} b", "a\n   {# c #} b", "a {#+ c +#}\nb", "a\n", "a\n\n", "\n", "",
    "a\r\nb\rc\r\n", "{% raw %}{{ x }} {% if %}{% endraw %}", "a {%- raw -%} b {{ {%- endraw -%} c", "  {% raw %}\n x {% endraw %}\n y", "{% raw %}x", "{# x", "{{ 1", "{% if true", "{% if true %}x",
    "a\n  \t{% set x = 1 %}\n  b", "\u3000{% set x = 1 %}\nb", "a\u00a0{%- set x = 1 -%}\u2003b", "{{ '{{' }} {{ '%}' }} {% set x = '%}' %}{{ x }}", "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ {'a': {}} }}}}", "{%- set x = 1 -%}\n\n{{ x }}\n{%- set y = 2 %}\n{{ y }}\n", "<{% for i in [1,2] %}\n{{ i }}\n{% endfor %}>", "<{%- for i in [1,2] -%}\n{{ i }}\n{%- endfor -%}>",
    "{{-1}} {{+1}} {{ -1 }}", "{% if true -%} a {%- else -%} b {%- endif %} c", "{{ 'a\nb' }}", "a{% if true %}\n\nb{% endif %}", "{%if true%}x{%endif%}",
    # if
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}", "{% if z %}a{% elif e %}b{% elif n %}c{% else %}d{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if %}x{% endif %}",
    "{% if (1, 2) %}t{% endif %}", "{% if 1, 0 %}t{% endif %}", "{% if no: %}a{% else: %}b{% endif %}",
    # for
    "{% for i in l %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for i in el %}x{% else %}empty{% endfor %}", "{% for i in missing %}x{% else %}none{% endfor %}", "{% for i in nil %}x{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }};{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [5] %}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }};{% endfor %}",
    "{% for i in range(10) if i is odd %}{{ loop.index }}:{{ i }}{{ '' if loop.last else ',' }}{% endfor %}", "{% for i in range(6) if i % 2 == 0 %}{{ loop.length }}{{ loop.revindex }};{% endfor %}",
    "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in [1] %}{% break %}{% else %}else{% endfor %}", "{% for i in [1, 2] %}{% continue %}{% else %}else{% endfor %}",
    "{% break %}", "{% for i in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for i in l %}{% for j in l %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in l %}{% set outer = loop %}{% for j in ls %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for item in [{'n': 1, 'c': [{'n': 2, 'c': []}, {'n': 3, 'c': [{'n': 4, 'c': []}]}]}] recursive %}[{{ item.n }}@{{ loop.depth }}{{ loop(item.c) }}]{% endfor %}",
    "{% for i in l %}{{ loop(l) }}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% for i in l %}{% set loop = 1 %}{% endfor %}", "{{ loop }}", "{% for x in (l|map('string')) %}{{ loop.length }}{{ x }}{% endfor %}",
    "{% set g = l|map('string') %}{% for x in g %}{{ x }}{% endfor %}|{% for x in g %}{{ x }}{% endfor %}", "{% set g = l|map('string') %}{{ g|first }}{{ g|first }}{{ g|list }}{{ 3 in g }}",
    "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}", "{% for i in l if i in [1, 2] and i is odd %}{{ i }}{% endfor %}", "{% for i in l if missing.x %}{% endfor %}", "{% for i in el if missing.x %}{% else %}ok{% endfor %}",
    "{% set ns = namespace(stop=false) %}{% for i in range(5) if not ns.stop %}{{ i }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% set ns = namespace(stop=false) %}{% for i in range(5) if not ns.stop %}{{ i }}{{ loop.last }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    # scopes
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}", "{% for i in l %}{% if loop.first %}{% set x = 'first' %}{% endif %}{{ x }};{% endfor %}", "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if no %}{% set x = 1 %}{% endif %}{{ x is defined }}", "{% if no %}{% set n = 1 %}{% endif %}{{ n }}", "{% for i in [1] %}{{ s }}{% endfor %}{% set s = 'new' %}{{ s }}", "{{ s }}{% set s = 'new' %}{{ s }}",
    "{% macro m() %}{{ s }}{% endmacro %}{{ m() }}{% set s = 'new' %}{{ m() }}", "{% macro m() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ m() }}", "{% macro m() %}{% set q9 = 5 %}{{ q9 }}{% endmacro %}{{ m() }}{{ q9 is defined }}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b, c = 2, 3 %}{{ ns.a }}{{ ns.b }}{{ c }}", "{% set d.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = l %}", "{% set (a, b) = 'xy' %}{{ b }}{{ a }}", "{% set 1 = 2 %}", "{% set a.b.c = 2 %}", "{% set true = 1 %}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}",
    "{% set x %}{% set y = 2 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with %}{% set x = 3 %}{{ x }}{% endwith %}{{ x is defined }}", "{% set a = 9 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}",
    "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}", "{% filter trim %}{% filter indent(2, true) %}\na\nb{% endfilter %}{% endfilter %}|", "{% filter nofilter %}{% endfilter %}",
    "{% for i in l %}{% set x %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endset %}<{{ x }}>{% endfor %}", "{% autoescape false %}{{ html }}{% set k = 1 %}{% endautoescape %}{{ k is defined }}",
    "{% if true %}{% for i in [1] %}{% set y = i %}{% endfor %}{{ y is defined }}{% endif %}", "{% set x = missing.a if missing is defined else 'none' %}{{ x }}", "{% set x = 1 %}{% macro m(x=x) %}{{ x }}{% endmacro %}{{ m() }}{{ m(2) }}",
    # macros
    "{% macro m(a, b='B', c=none) %}{{ a }}|{{ b }}|{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 2) }} {{ m(c=3, a=1) }} {{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}", "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body{{ n }}{% endcall %}", "{% macro m() %}[{{ caller(1, b=2) }}]{% endmacro %}{% call(a, b=3) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}x{% endmacro %}{% call m() %}b{% endcall %}", "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "{% macro m() %}  x  {% endmacro %}[{{ m()|trim }}]", "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% if true %}{% macro m() %}in{% endmacro %}{% endif %}{{ m() }}", "{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m(caller) %}{{ caller() }}{% endmacro %}", "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}", "{{ m }}{% macro m() %}{% endmacro %}{{ m }}", "{% macro m() %}{{ m.name }}{% endmacro %}{{ m() }}", "{% macro m(x) %}{% set x = x ~ '!' %}{{ x }}{% endmacro %}{{ m('a') }}",
    "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}<{{ m(1) }}>", "{% call(x) ls %}{% endcall %}", "{% macro m() %}{% for c in 'ab' %}{{ caller(c) }}{% endfor %}{% endmacro %}{% call(c) m() %}<{{ c }}{{ loop is defined }}>{% endcall %}", "{{ range(3)|map('string')|map('upper')|join }}",
    # errors and unknown things
    "{% do x %}", "{% endif %}", "{% unknown %}", "{{ 1|nofilter }}", "{% if no %}{{ 1|nofilter }}{% endif %}ok", "{% if no %}{% for i in l %}{{ i|nofilter }}{% endfor %}{% endif %}", "{{ 1 is notest }}", "{{ x|nofilter if no else 'ok' }}", "{% include 'x' %}", "{% if no %}{% include 'x' %}{% endif %}ok", "{% import 'x' as y %}", "{% extends 'x' %}",
    "{% if no %}{{ raise_exception('a') }}{% endif %}ok", "{{ raise_exception() }}", "{% for i in l %}{% endfor %}{% endfor %}", "{% set %}", "{% for in x %}{% endfor %}", "{% if a == %}{% endif %}", "{{ }}", "{{ a.b(c=1, 2) }}", "{{ f(a=1, a=2) }}", "{% print 1, 'a' %}",
    "{% block a %}x{{ n }}{% endblock %}", "{% set v = 5 %}{% block a %}{{ v }}{% endblock %}", "{% for i in [1] %}{% block a %}{{ i is defined }}{% endblock %}{% endfor %}", "{% block a %}{% endblock a %}", "{{ 'a' if }}",
    # generation
    "{% for m in ls %}{{ m }}:{% generation %}ans {{ m }}{% endgeneration %};{% endfor %}", "{%- generation -%} é x {%- endgeneration -%} y", "{% generation %}{% set gx = 1 %}{% endgeneration %}{{ gx is defined }}", "{% set x %}{% generation %}a{% endgeneration %}{% endset %}{{ x }}", "{% for i in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    # spread over several features
    "{%- set ns = namespace(sys='', first=true) -%}\n{%- for m in people -%}\n  {%- if m.name == 'Bob' -%}\n    {%- if ns.first -%}{%- set ns.sys = ns.sys + m.name -%}{%- set ns.first = false -%}{%- else -%}{%- set ns.sys = ns.sys + '\\n\\n' + m.name -%}{%- endif -%}\n  {%- endif -%}\n{%- endfor -%}\n{{ ns.sys }}",
    "{% for p in people|sort(attribute='age') %}{{ loop.index }}. {{ p.name }}{{ ' (' ~ p.job.t ~ ')' if p.job is defined }}\n{% endfor %}", "{% set c = cycler('x', 'y', 'z') %}{% for i in range(4) %}{{ c.next() }}{{ c.current }} {% endfor %}{% set _ = c.reset() %}{{ c.current }}", "{% set j = joiner(' | ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}",
    "{% macro show(x, depth=0) %}{{ '  ' * depth }}{% if x is mapping %}{\n{% for k, v in x|dictsort %}{{ '  ' * (depth + 1) }}{{ k }}: {{ show(v, depth + 1) }}\n{% endfor %}}{% elif x is string %}{{ x|tojson }}{% elif x is sequence %}[{% for v in x %}{{ show(v, depth) }}{% if not loop.last %}, {% endif %}{% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}{{ show(nest) }}",
    "{{ d|tojson(indent=2)|indent(4) }}", "{%- for k, v in d|items %}{{ k ~ ':' ~ v }} {% endfor -%}", "{{ messages[0].content }}{{ bos_token }}{{ tools }}{{ documents }}{{ add_generation_prompt }}", "{% for message in messages[1:] %}{{ message.role }}{% endfor %}", "{% set loop_messages = messages[1:] if messages[0]['role'] == 'system' else messages %}{{ loop_messages|length }}",
    "{{ messages[-1]['content'].split('x')[-1].lstrip('\\n') }}", "{{ '%s: %s' % (messages[0].role, messages[0].content) }}",
]


def cases():
    pairs = 0
    for text in EXPRESSIONS.replace("\\\ncontinued", "\\\x01").split("\n"):
        yield "{{ " + text.replace("\x01", "\ncontinued") + " }}"
    for atom in ATOMS:
        for f in FILTERS:
            yield "{{ (" + atom + ")|" + f + " }}"
        yield "{{ [" + ", ".join(f"({atom}) is {t}" for t in TESTS if t not in ("odd", "even", "divisibleby(2)", "lt(5)", "ge(0)", "filter", "test")) + "] }}"
        for t in ("odd", "divisibleby(2)", "lt(5)", "ge(0)", "filter", "test"):
            yield "{{ (" + atom + ") is " + t + " }}"
        yield "{{ " + atom + " }}|{{ [" + atom + "] }}|{{ " + atom + " or 'f' }}"
        yield "{% for x in " + atom + " %}[{{ x }}]{% else %}-{% endfor %}"
        for other in () if atom == "d.items()" else ("2", "'a'", "none", "1.5", "[1]", "missing", atom):
            for op in ("+", "-", "*", "/", "//", "%", "**", "<", "in"):
                pairs += 1
                if pairs % 4 == 0:                      # a quarter of all pairs: the file is to stay small
                    yield "{{ (" + atom + ") " + op + " (" + other + ") }}"
    yield from TEMPLATES


def main():
    out = []
    messages = [{"role": "system", "content": "Sys"}, {"role": "user", "content": "Hix\n\nyo"}]
    seen = set()
    for template in cases():
        if template in seen:
            continue
        seen.add(template)
        case = render({"template": template, "vars": copy.deepcopy(VARS), "messages": messages, "bos": "<s>", "now": 1738333845})
        if " at 0x" in case.get("expected", "") or " object at " in case.get("error", ""):
            continue
        if len(case.get("expected", "")) > 4000 or "j)" in case.get("expected", ""):      # complex numbers: refused here
            continue
        for key in ("vars", "messages", "bos", "now"):
            del case[key]
        if "error" in case:
            case["error"] = case["error"].split(":")[0]
        out.append(case)
    first = {"vars": VARS, "messages": messages, "bos": "<s>", "now": 1738333845}
    print("[" + json.dumps(first, ensure_ascii=False, separators=(",", ":")) + ",")
    print(",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in out) + "]")
    sys.stderr.write(f"{len(out)} cases, {sum('error' in c for c in out)} refused\n")


if __name__ == "__main__":
    main()
