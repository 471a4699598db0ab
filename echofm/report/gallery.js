for (const gallery of document.querySelectorAll(".gallery")) {
  const cards = [...gallery.querySelectorAll(".card")].map((node) => ({ node, fields: JSON.parse(node.dataset.fields) }));
  const form = gallery.querySelector("form"), list = gallery.querySelector(".cards"), count = gallery.querySelector("output");
  form.hidden = false;
  const play = (node, on) => {
    const image = node.querySelector("img");
    if (node.dataset.clip) { image.src = on ? node.dataset.clip : node.dataset.strip; node.classList.toggle("playing", on); }
  };
  const update = () => {
    const asked = [...form.querySelectorAll("select[data-field]")].filter((each) => each.value);
    const words = form.elements.text.value.trim().toLowerCase();
    const order = form.elements.order.value, down = form.elements.down.checked;
    const value = (card) => card.fields[order] ?? null;
    const sorted = order ? [...cards].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (down ? -1 : 1) * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    }) : cards;
    let shown = 0;
    for (const card of sorted) {
      const kept = asked.every((each) => String(card.fields[each.dataset.field] ?? "").split("; ").includes(each.value))
        && (!words || card.node.textContent.toLowerCase().includes(words) || String(card.fields.patient ?? "").includes(words));
      card.node.hidden = !kept;
      shown += kept;
      list.append(card.node);
      play(card.node, kept && form.elements.all.checked);
    }
    count.textContent = `${shown} of ${cards.length} clips`;
  };
  for (const card of cards) card.node.addEventListener("click", () => play(card.node, !card.node.classList.contains("playing")));
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
