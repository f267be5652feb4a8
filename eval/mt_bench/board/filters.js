// Filters and sorts the judgment browser; the page is whole without it. State stands in the address after the #.
(() => {
  const form = document.getElementById("filters");
  const list = document.getElementById("questions");
  const count = document.getElementById("count");
  const articles = [...list.children];
  const numModels = Number(list.dataset.models);
  const holds = (element, name, wanted) =>
    !wanted || (element.dataset[name] || "").split(" ").includes(wanted);

  function loss(article, model, against) {
    const first = Math.min(model, against), second = Math.max(model, against);
    const place = (first * (2 * numModels - first - 1)) / 2 + second - first - 1;
    const text = article.dataset.losses.split(",")[place];
    if (text === undefined || text === "") return null;
    return model < against ? Number(text) : -Number(text);
  }

  function sort(chosen) {
    const model = Number(chosen.lost), against = Number(chosen.to);
    const asked = chosen.lost !== undefined && model !== against;
    const losses = new Map(articles.map((article) => [article, asked ? loss(article, model, against) : null]));
    articles.sort((a, b) => {
      const one = losses.get(a), other = losses.get(b);
      if (one === null || other === null) return (one === null) - (other === null) || a.dataset.place - b.dataset.place;
      return other - one || a.dataset.place - b.dataset.place;
    });
    for (const article of articles) {
      const value = losses.get(article), label = article.querySelector(".loss");
      if (label) label.textContent = value === null ? "" : `${label.dataset.word} ${value.toFixed(2).replace("-", "−")}`;
      list.append(article);
    }
  }

  function filter(chosen) {
    let shown = 0;
    for (const article of articles) {
      let anyTurn = false;
      for (const turn of article.querySelectorAll(".turn")) {
        let anyItem = false;
        for (const item of turn.querySelectorAll(".item")) {
          const verdicts = [...item.querySelectorAll(".verdict")];
          for (const verdict of verdicts) verdict.hidden = !holds(verdict, "judge", chosen.judge);
          const matches = verdicts.some((v) => holds(v, "judge", chosen.judge) && holds(v, "status", chosen.status));
          item.hidden = !(holds(item, "models", chosen.model) && (matches || (!chosen.judge && !chosen.status)));
          anyItem = anyItem || !item.hidden;
        }
        const narrowed = chosen.model || chosen.judge || chosen.status;
        turn.hidden = !(holds(turn, "turn", chosen.turn) && (anyItem || !narrowed));
        anyTurn = anyTurn || !turn.hidden;
      }
      article.hidden = !(holds(article, "category", chosen.category) && anyTurn);
      shown += article.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${articles.length} questions`;
  }

  function apply() {
    const chosen = Object.fromEntries(new FormData(form));
    sort(chosen);
    filter(chosen);
  }

  function fromAddress() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      const field = form.elements.namedItem(name);
      if (field instanceof HTMLSelectElement) field.value = value;
    }
    apply();
  }

  form.hidden = false;
  form.addEventListener("change", () => {
    apply();
    const chosen = [...new FormData(form)].filter(([, value]) => value !== "");
    history.replaceState(null, "", "#" + new URLSearchParams(chosen));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
})();
