
const links = [...document.querySelectorAll("nav a")], parts = links.map(a => document.querySelector(a.hash));
function mark() {
  const past = parts.filter(p => p.getBoundingClientRect().top < innerHeight / 3).length;
  links.forEach((a, i) => a.toggleAttribute("data-here", i === Math.max(past - 1, 0)));
}
addEventListener("scroll", mark, {passive: true});
mark();
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach(d => { d.open = true; });
});
addEventListener("afterprint", () => closed.forEach(d => { d.open = false; }));
