"""Style of the status page, and the headers that allow nothing else."""

from base64 import b64encode
from hashlib import sha256

STYLE = """
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--text:#1b1f24;--soft:#57606a;--line:#d8dee4;--good:#1a7f37;
--bad:#b42318;--bad-back:#fdecea;--s0:#0b62c4;--s1:#c2410c;--s2:#6b21a8;--link:#0b57b0}
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--card:#161b22;--text:#e6edf3;--soft:#9aa5b1;--line:#30363d;
--good:#3fb950;--bad:#ff8a80;--bad-back:#3a1512;--s0:#6cb2ff;--s1:#ffa657;--s2:#d2a8ff;--link:#6cb2ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:90rem;background:var(--back);color:var(--text);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
a{color:var(--link)}
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline}
h1{font-size:1.35rem;margin:0}
h2{font-size:1rem;margin:0;padding:.7rem 1rem .3rem}
header nav{display:flex;flex-wrap:wrap;gap:0 .9rem}
code{font:.92em ui-monospace,monospace}
.soft{color:var(--soft)}
.state{font-weight:600;color:var(--good)}
.state.bad{color:var(--bad)}
.verdict{margin:.8rem 0;
padding:.6rem 1rem;border-left:.3rem solid var(--good);background:var(--card);border-radius:.3rem}
.verdict.bad{border-color:var(--bad);background:var(--bad-back)}
.verdict p{margin:0;font-weight:600}
.verdict ul{margin:.3rem 0 0;padding-left:1.2rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:.8rem;margin:.8rem 0}
figure,section{background:var(--card);border:1px solid var(--line);border-radius:.4rem;margin:0}
figure{padding:.6rem .9rem;display:flex;flex-direction:column}
figcaption{font-weight:600}
.top,.axis,.legend{font-size:.8rem;color:var(--soft)}
.plot{width:100%;height:5.5rem;border:solid var(--line);border-width:1px 0;overflow:visible}
.plot path,.legend path{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}
.plot .grid{stroke:var(--line);stroke-width:1}
path.s0,.s0 path{stroke:var(--s0)}
path.s1,.s1 path{stroke:var(--s1);stroke-dasharray:6 3}
path.s2,.s2 path{stroke:var(--s2);stroke-dasharray:2 3}
.empty{margin:-3.4rem 0 2rem;text-align:center;color:var(--soft)}
@media(max-width:30rem){.plot{height:3.5rem}.empty{margin:-2.4rem 0 1rem}}
.axis{display:flex;justify-content:space-between}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:0 1rem;margin:.3rem 0 0;padding:0}
.legend svg{width:1.3rem;height:.3rem;margin-right:.35rem;vertical-align:middle}
.legend b{color:var(--text);font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}
.sections{columns:22rem;column-gap:.8rem}
.sections.many{columns:32rem}
.many tbody th{min-width:13rem}
section{break-inside:avoid;margin-bottom:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{padding:.3rem 0;border-top:1px solid var(--line);vertical-align:top;font-weight:400;text-align:left}
thead th{font-size:.85rem;color:var(--soft);text-align:right;padding-right:2.2em;border:0;white-space:nowrap}
tbody th{padding-left:1rem;padding-right:.8rem;width:100%}
tbody th small{display:block;color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
td{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td:last-child{padding-right:.6rem}
thead th:last-child{padding-right:calc(2.2em + .6rem)}
td+td,thead th+th{padding-left:.5rem}
td i{display:inline-block;min-width:2.2em;padding-left:.25em;text-align:left;font-style:normal;font-size:.85rem;
color:var(--soft)}
tr.bad th,tr.bad td,td.bad{color:var(--bad);font-weight:600}
tr.bad th small,tr.bad i,td.bad i{color:var(--bad);font-weight:400}
"""
_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of the page: only its own style, no script, no frame, no copy in a cache."""
