"""The reference page's template and style sheet, as text: the page must be whole without any other file."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Mailfleet API reference</title>
<link rel="stylesheet" href="/v1/docs.css">
</head>
<body>
<a class="skip" href="#content">Skip to the reference</a>
<header><div><a class="brand" href="/">Mailfleet</a> <span>API reference</span> <span class="version">{{ version }}</span></div>
<a href="/v1/openapi.json">OpenAPI document</a></header>
<div class="columns">
<nav aria-label="Operations">
{% for group, operations in groups.items() %}
<h2>{{ group }}</h2>
<ul>{% for operation in operations %}<li><a href="#{{ operation.id }}">{{ operation.summary }}</a></li>{% endfor %}</ul>
{% endfor %}
<h2>More</h2>
<ul><li><a href="#problems">Errors</a></li><li><a href="#schemas">Schemas</a></li></ul>
</nav>
<main id="content">
<section><h1>API reference</h1><p>{{ description }}</p>
<h3 id="scopes">Tokens and scopes</h3>
<p>Send <code>Authorization: Bearer</code> and an API token with every request. A token has scopes:</p>
<dl class="table">{% for scope, meaning in scopes.items() %}
<div><dt><code>{{ scope }}</code></dt><dd>{{ meaning }}</dd></div>{% endfor %}</dl>
</section>
{% for group, operations in groups.items() %}
<h2 class="group">{{ group }}</h2>
{% for operation in operations %}
<section id="{{ operation.id }}">
<h3>{{ operation.summary }}</h3>
<p class="line"><span class="method {{ operation.method|lower }}">{{ operation.method }}</span>
<code class="path">{{ operation.path }}</code>
{% for scope in operation.scopes %}<span class="scope">scope <a href="#scopes">{{ scope }}</a></span>{% endfor %}</p>
<p>{{ operation.description }}</p>
{% if operation.parameters %}
<h4>Parameters</h4>
<dl class="table">{% for parameter in operation.parameters %}
<div><dt><code>{{ parameter.name }}</code>{% if parameter.required %} <b class="required">required</b>{% endif %}
<small>{{ parameter.place }} &middot; {{ parameter.type }}</small></dt><dd>{{ parameter.description }}</dd></div>{% endfor %}</dl>
{% endif %}
{% if operation.bodies %}
<h4>Body</h4>
<dl class="table">{% for body in operation.bodies %}
<div><dt><code>{{ body.type }}</code></dt>
<dd>{% if body.schema %}<a href="#schema-{{ body.schema }}">{{ body.schema }}</a>{% elif body.parts %}
{% for name, schema, description in body.parts %}
<p><code>{{ name }}</code>{% if schema %}: <a href="#schema-{{ schema }}">{{ schema }}</a>{% endif %}
{{ description }}</p>{% endfor %}
{% else %}The bytes as they are.{% endif %}</dd></div>{% endfor %}</dl>
{% endif %}
<h4>Answer</h4>
<dl class="table">{% for status, answer, schemas in operation.answers %}
<div><dt><code>{{ status }}</code></dt>
<dd>{{ answer }}
{% for schema in schemas %} <a href="#schema-{{ schema }}">{{ schema }}</a>{% endfor %}</dd></div>{% endfor %}</dl>
{% for example in operation.examples %}
<pre tabindex="0" aria-label="Example of {{ operation.summary|lower }}"><code>{{ example }}</code></pre>
{% endfor %}
</section>
{% endfor %}
{% endfor %}
<h2 class="group" id="problems">Errors</h2>
<section><p>Every error has the media type <code>application/problem+json</code> and the shape
<a href="#schema-Problem">Problem</a>.</p>
<dl class="table">{% for name, kind in kinds.items() %}
<div id="problem-{{ name }}"><dt><code>{{ name }}</code> <small>{{ kind.status }}</small></dt>
<dd><b>{{ kind.title }}.</b> {{ kind.meaning }}</dd></div>{% endfor %}
</dl></section>
<h2 class="group" id="schemas">Schemas</h2>
{% for name, schema in schemas.items() %}
<section id="schema-{{ name }}"><h3>{{ name }}</h3><p>{{ schema.description }}</p>
<dl class="table">{% for member in schema.members %}
<div><dt><code>{{ member.name }}</code>{% if member.required %} <b class="required">required</b>{% endif %}
<small>{{ member.type }}</small></dt>
<dd>{{ member.description }}</dd></div>{% endfor %}
</dl></section>
{% endfor %}
</main>
</div>
</body>
</html>
"""

CSS = """
:root { color-scheme: light dark; --bg: #fbfbfc; --card: #fff; --ink: #1c2430; --soft: #59657a; --line: #dfe3ea;
  --accent: #1a56c4; --code: #f0f2f6; --get: #0b6e4f; --post: #1a56c4; --delete: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bg: #12161d; --card: #1a202a; --ink: #e4e8ef; --soft: #9aa6ba; --line: #2d3644;
  --accent: #8ab4ff; --code: #222a36; --get: #5fd0a5; --post: #8ab4ff; --delete: #ff9a92; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--accent); }
a:focus-visible, pre:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: .5rem; z-index: 3; }
header { position: sticky; top: 0; z-index: 2; display: flex; justify-content: space-between; align-items: center; gap: 1rem;
  padding: .8rem 1.5rem; background: var(--card); border-bottom: 1px solid var(--line); }
.brand { font-weight: 700; color: var(--ink); text-decoration: none; }
.version { color: var(--soft); font-size: .85rem; }
.columns { display: grid; grid-template-columns: 17rem minmax(0, 1fr); max-width: 78rem; margin: 0 auto; }
nav { position: sticky; top: 3.5rem; align-self: start; max-height: calc(100vh - 3.5rem); overflow: auto;
  padding: 1rem 1.5rem; font-size: .92rem; }
nav h2 { margin: 1rem 0 .2rem; font-size: .85rem; color: var(--soft); }
nav ul { margin: 0; padding: 0; list-style: none; }
nav a { display: block; padding: .15rem 0; color: var(--ink); text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
main { padding: 1.5rem; }
h1 { margin: 0 0 .5rem; font-size: 1.8rem; }
h2.group { margin: 2.5rem 0 .8rem; font-size: 1.35rem; }
h3 { margin: 0 0 .4rem; font-size: 1.1rem; }
h4 { margin: 1.1rem 0 .2rem; font-size: .85rem; color: var(--soft); }
section { margin: 0 0 1rem; padding: 1.1rem 1.3rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section:target, .table > div:target { border-color: var(--accent); box-shadow: 0 0 0 2px var(--accent); }
section { overflow-wrap: anywhere; }
section p { margin: .5rem 0; }
code { font: .88em/1.5 ui-monospace, monospace; background: var(--code); padding: .1em .35em; border-radius: 4px;
  overflow-wrap: anywhere; }
pre { margin: 1rem 0 0; padding: .9rem 1rem; overflow-x: auto; background: var(--code); border-radius: 8px; }
pre code { padding: 0; background: none; overflow-wrap: normal; }
.line { display: flex; gap: .6rem; align-items: baseline; flex-wrap: wrap; }
.method { font: 700 .8rem ui-monospace, monospace; border: 1px solid currentColor; border-radius: 4px; padding: .05rem .4rem; }
.scope { color: var(--soft); font-size: .9rem; }
.get { color: var(--get); } .post { color: var(--post); } .delete { color: var(--delete); }
.table { margin: 0; }
.table > div { display: grid; grid-template-columns: minmax(11rem, 16rem) minmax(0, 1fr); gap: .2rem 1rem;
  padding: .45rem 0; border-top: 1px solid var(--line); }
.table > div:first-child { border-top: 0; }
.table dd { margin: 0; } .table dd p:first-child { margin-top: 0; }
.table small { display: block; color: var(--soft); }
.required { color: var(--delete); font-size: .8rem; font-weight: 600; }
@media (max-width: 50rem) {
  .columns { display: block; }
  nav { position: static; max-height: 40vh; border-bottom: 1px solid var(--line); columns: 2 9rem; }
  header { padding: .7rem 1rem; flex-wrap: wrap; } main { padding: 1rem; } section { padding: 1rem; }
  .table > div { grid-template-columns: 1fr; }
}
"""
