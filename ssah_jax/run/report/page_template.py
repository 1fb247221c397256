"""The frame of `report.html` and its style: light and dark, desk and telephone."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --back: #fff; --text: #1b1f24; --line: #d5d9de; --card: #f6f7f9;
  --hit: #2f8a50; --miss: #c8454f; --mark: #3b82c4; --soft: #9cc3e6; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #15181c; --text: #dfe3e8; --line: #363c44; --card: #1c2026;
    --hit: #46b06d; --miss: #e0656e; --mark: #6aa9e0; --soft: #34516d; }}
}}
body {{ margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem; }}
h3 {{ font-size: 1rem; margin: 1.25rem 0 .5rem; }}
table {{ border-collapse: collapse; width: 100%; max-width: 44rem; }}
th, td {{ padding: .3rem .5rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; overflow-wrap: anywhere; }}
th {{ font-weight: 400; width: 45%; }}
td {{ font-variant-numeric: tabular-nums; }}
.results tr:first-child > * {{ font-weight: 600; }}
.plots {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }}
figure {{ margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem;
  min-width: 0; }}
figcaption {{ font-weight: 600; margin-bottom: .25rem; }}
.codes {{ margin-bottom: 1rem; }}
svg {{ display: block; width: 100%; height: auto; }}
svg text {{ font-family: system-ui, sans-serif !important; }}
img {{ display: block; max-width: 100%; }}
.strips figure {{ margin-bottom: .75rem; }}
.strips img {{ image-rendering: pixelated; }}
.scroll {{ overflow-x: auto; }}
.scroll img {{ max-width: none; width: max(100%, 36rem); }}
@media (min-width: 48rem) {{ .scroll img {{ max-width: 100%; width: auto; }} }}
.classes th, .classes td {{ padding: .3rem .25rem; }}
.classes th {{ width: 40%; hyphens: auto; }}
.classes thead th {{ font-size: .85rem; vertical-align: bottom; }}
.classes td:nth-child(2) {{ width: 30%; vertical-align: middle; }}
.classes td:nth-child(n+3), .classes th:nth-child(n+3) {{ text-align: right;
  width: auto; overflow-wrap: normal; }}
.track {{ display: block; position: relative; height: .8rem; margin-right: .4rem;
  border-left: 1px solid var(--text); border-right: 1px solid var(--line); }}
.track span {{ position: absolute; }}
.bar {{ left: 0; top: .36rem; height: 1px; background: var(--line); right: 0; }}
.range {{ top: .22rem; height: .36rem; min-width: 2px; background: var(--soft); }}
.dot {{ top: .1rem; width: .6rem; height: .6rem; margin-left: -.3rem;
  border-radius: 50%; background: var(--mark); }}
.answer {{ display: grid; gap: .75rem; padding: .75rem; margin-bottom: .75rem;
  background: var(--card); border-radius: .5rem; }}
.answer figure {{ padding: 0; display: flex; gap: .75rem; align-items: start; }}
.answer figcaption {{ font-weight: 400; overflow-wrap: anywhere; min-width: 0; }}
.answer figure img {{ width: 6rem; flex: none; }}
.neighbours {{ list-style: none; margin: 0; padding: 0; display: grid;
  gap: .5rem .35rem;
  grid-template-columns: repeat(5, minmax(0, 6rem)); }}
.neighbours img {{ width: 100%; box-sizing: border-box; padding: 2px; }}
.neighbours li {{ font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere; }}
.neighbours b {{ display: block; }}
.hit img {{ border: 3px solid var(--hit); }}
.miss img {{ border: 3px dashed var(--miss); }}
.clamp {{ hyphens: auto; display: -webkit-box;
  -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }}
@media (min-width: 48rem) {{
  .answer {{ grid-template-columns: 9rem 1fr; }}
  .answer figure {{ display: block; }}
}}
@media (min-width: 64rem) {{
  .neighbours {{ grid-template-columns: repeat(10, minmax(0, 6rem)); }}
}}
pre {{ overflow-x: auto; padding: .75rem; background: var(--card);
  border-radius: .5rem; font-size: .85rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
"""To be formatted with `title` and `body`, both HTML."""
