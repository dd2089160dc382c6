"""A page to try queries on. One file without scripts, styles or fonts from elsewhere, so it works without internet."""

EXPLORER_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>GraphQL explorer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root{color-scheme:light dark;font:14px/1.4 system-ui,sans-serif}
body{margin:0;display:grid;grid-template:auto 1fr/minmax(14rem,1fr) 2fr 2fr;height:100vh;gap:1px;background:#8884}
header{grid-column:1/-1;display:flex;gap:.6rem;align-items:center;padding:.5rem .8rem;background:Canvas}
header strong{flex:1}button{font:inherit;padding:.3rem 1rem;cursor:pointer}
section{background:Canvas;display:flex;flex-direction:column;min-height:0;min-width:0}
h2{font-size:.75rem;text-transform:uppercase;letter-spacing:.06em;margin:.5rem .8rem;opacity:.7}
textarea,pre{font:13px/1.5 ui-monospace,monospace;border:0;margin:0;padding:.4rem .8rem;resize:none;background:Canvas;
color:CanvasText;flex:1;min-height:0;overflow:auto;tab-size:2;white-space:pre-wrap}
textarea:focus{outline:2px solid #4a90d9;outline-offset:-2px}
#variables,#headers{flex:0 0 5.5rem}#docs{overflow:auto;padding:0 .8rem .8rem}
details{margin:.15rem 0}summary{cursor:pointer}#docs code{display:block;padding-left:1rem}#docs em{opacity:.7}
</style></head><body>
<header><strong>GraphQL explorer</strong><span id="status"></span><button id="run" title="Ctrl+Enter">Run</button></header>
<section><h2>Schema</h2><div id="docs">Loading...</div></section>
<section><h2>Operation</h2><textarea id="query" spellcheck="false" aria-label="Operation"></textarea>
<h2>Variables (JSON)</h2><textarea id="variables" spellcheck="false" aria-label="Variables"></textarea>
<h2>Headers (JSON)</h2><textarea id="headers" spellcheck="false" aria-label="Headers"></textarea></section>
<section><h2>Answer</h2><pre id="answer" aria-live="polite"></pre></section>
<script>
const el=id=>document.getElementById(id), kept=['query','variables','headers'];
for(const id of kept){el(id).value=sessionStorage.getItem('gql-'+id)||(id==='query'?'{\\n  __typename\\n}':'');
el(id).addEventListener('input',()=>sessionStorage.setItem('gql-'+id,el(id).value));}
async function ask(query,variables,headers){const r=await fetch(location.pathname,{method:'POST',headers:{
'content-type':'application/json',accept:'application/graphql-response+json, application/json',...headers},
body:JSON.stringify({query,variables})});return [r.status,await r.json()];}
const json=id=>{const t=el(id).value.trim();return t?JSON.parse(t):{}};
async function run(){const t=performance.now();try{const [s,a]=await ask(el('query').value,json('variables'),json('headers'));
el('answer').textContent=JSON.stringify(a,null,2);el('status').textContent=s+' in '+Math.round(performance.now()-t)+' ms';}
catch(e){el('answer').textContent=String(e);el('status').textContent='failed';}}
el('run').onclick=run;
addEventListener('keydown',e=>{if((e.ctrlKey||e.metaKey)&&e.key==='Enter'){e.preventDefault();run();}});
el('query').addEventListener('keydown',e=>{if(e.key==='Tab'){e.preventDefault();
e.target.setRangeText('  ',e.target.selectionStart,e.target.selectionEnd,'end');}});
const name=t=>t.kind==='NON_NULL'?name(t.ofType)+'!':t.kind==='LIST'?'['+name(t.ofType)+']':t.name;
const TYPE='kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name}}}}';
(async()=>{try{const [,a]=await ask('{__schema{types{kind name description fields{name description args{name type{'+TYPE+
'}} type{'+TYPE+'}} inputFields{name type{'+TYPE+'}} enumValues{name} possibleTypes{name}}}}',{},json('headers'));
if(!a.data){el('docs').textContent='Introspection is off.';return;}
el('docs').textContent='';const first=['Query','Mutation','Subscription'];
const types=a.data.__schema.types.filter(t=>!t.name.startsWith('__')).sort((x,y)=>
(first.indexOf(y.name)-first.indexOf(x.name))||x.name.localeCompare(y.name));
for(const t of types){const d=document.createElement('details');d.open=t.name==='Query';
const s=document.createElement('summary');s.textContent=t.name+' ';const k=document.createElement('em');
k.textContent=t.kind.toLowerCase();s.append(k);d.append(s);
for(const f of [...(t.fields||[]),...(t.inputFields||[])]){const c=document.createElement('code');
c.textContent=f.name+((f.args||[]).length?'('+f.args.map(x=>x.name+': '+name(x.type)).join(', ')+')':'')+': '+name(f.type);
c.title=f.description||'';d.append(c);}
for(const v of [...(t.enumValues||[]),...(t.possibleTypes||[])]){const c=document.createElement('code');
c.textContent=v.name;d.append(c);}el('docs').append(d);}}catch(e){el('docs').textContent=String(e);}})();
</script></body></html>
"""
