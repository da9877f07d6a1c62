"use strict";
// A page of the present looks again when it is told that its data changed. Only what differs is
// put in place of what was there, and never under the reader's hands: where they are, what is
// open, where the focus is and what was typed stay.
(() => {
  const place = location.pathname.match(/^\/console\/(users|accounts)(?:\/([0-9a-f-]{36}))?(?:\/[a-z]+)?$/);
  const past = new URLSearchParams(location.search).get("as_of");
  if (!place || past || /\/(review|json)$/.test(location.pathname)) return;
  const isList = !place[2];
  const stream = `/console/changes/${place[1]}` + (isList ? "" : `?id=${place[2]}`);
  const parts = isList ? ["#results"] : [".head", ".facts", ".life", ".tabs", "#pane", ".aside"];
  const QUIET = 1500;
  const PAUSE = isList ? 5000 : 1000;
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // What the server said, but for how long ago things are: that is another at every look.
  const said = (part) => {
    if (!part) return "";
    const copy = part.cloneNode(true);
    for (const time of all("time", copy)) time.replaceChildren();
    return copy.outerHTML;
  };
  const known = new Map(parts.map((name) => [name, said(one(name))]));
  let touched = false;

  const busy = (part) => {
    if (one("dialog[open]")) return true;
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input, textarea, select")) return true;
    if (one("input[form=chosen]:checked", part)) return true;
    const chosen = getSelection();
    return !chosen.isCollapsed && part.contains(chosen.anchorNode);
  };

  const label = (fold) => (one("summary span, summary b", fold) || one("summary", fold) || fold).textContent.trim();
  const replace = (before, after) => {
    const open = new Set(all("details[open]", before).map(label));
    const scrolled = all(".scroll", before).map((box) => [box.scrollLeft, box.scrollTop]);
    const active = before.contains(document.activeElement) ? document.activeElement : null;
    const kind = active && (active.id ? `#${CSS.escape(active.id)}` : active.matches("a[href]") ? `a[href="${CSS.escape(active.getAttribute("href"))}"]` : active.tagName);
    const nth = active ? all(kind, before).indexOf(active) : 0;
    const [left, top] = [before.scrollLeft, before.scrollTop];
    before.replaceWith(after);
    for (const fold of all("details", after)) if (open.has(label(fold))) fold.open = true;
    all(".scroll", after).forEach((box, n) => { if (scrolled[n]) [box.scrollLeft, box.scrollTop] = scrolled[n]; });
    [after.scrollLeft, after.scrollTop] = [left, top];
    if (active) all(kind, after)[nth]?.focus({ preventScroll: true });
    dress(after);
  };
  const dress = (part) => {
    htmx.process(part);
    document.dispatchEvent(new CustomEvent("htmx:afterSwap", { detail: { target: part, live: true } }));
  };

  // What comes page by page keeps its pages: what is new is put before, rows are put in their places.
  const addHappened = (before, after) => {
    const list = one("#happened", before);
    const first = one(".happened", list);
    const items = all(".happened", after);
    const at = first ? items.findIndex((item) => key(item) === key(first)) : items.length;
    if (at < 0) return false;
    for (const heading of all("li.day", list)) heading.remove();
    one(".empty", list)?.remove();
    list.prepend(...items.slice(0, at));
    dress(list);
    return true;
  };
  const key = (item) => one("time", item)?.dateTime + one(".said", item)?.textContent.replace(/\s+/g, " ");
  const putRows = (before, after) => {
    const rows = new Map(all("tbody tr", after).map((row) => [one("th", row)?.textContent, row]));
    for (const row of all("tbody tr", before)) {
      const fresh = rows.get(one("th", row)?.textContent);
      if (fresh && said(fresh) !== said(row)) { row.replaceWith(fresh); dress(fresh); }
    }
  };

  const settle = (name, page) => {
    const [before, after] = [one(name), one(name, page)];
    const now = said(after);
    if (now === known.get(name)) return true;
    if (!before || !after) { known.set(name, now); return true; }
    if (busy(before)) return false;
    known.set(name, now);
    if (name === "#pane" && one("#happened", before)) {
      const filtered = all("#timeline-filters input, #timeline-filters select").some((field) => field.type !== "hidden" && field.value);
      if (!filtered && addHappened(before, after)) return true;
      if (touched || filtered) return true;
    }
    if (name === "#pane" && touched) putRows(before, after);
    else replace(before, after);
    return true;
  };

  let due = 0, running = false;
  const refresh = async () => {
    if (running || document.hidden) return;
    running = true;
    due = 0;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.ok && !answer.redirected) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (!parts.map((name) => settle(name, page)).every(Boolean)) later(PAUSE);
        if (isList) document.body.dispatchEvent(new Event("list-changed"));
      }
    } catch { later(4 * PAUSE); }
    running = false;
  };
  const later = (pause) => { due ||= setTimeout(refresh, pause); };

  const erased = () => {
    source.close();
    clearTimeout(due);
    const kind = place[1].slice(0, -1);
    const title = document.createElement("h1"), text = document.createElement("p"), back = document.createElement("a");
    title.textContent = `This ${kind} was erased`;
    Object.assign(back, { href: `/console/${place[1]}`, textContent: `To the ${place[1]}` });
    text.append(back);
    const empty = document.createElement("div");
    empty.className = "empty";
    empty.setAttribute("role", "alert");
    empty.append(title, text);
    document.title = "Erased · Annals";
    one("#work").replaceChildren(empty);
  };

  let source = null, retry = 0;
  const listen = () => {
    clearTimeout(retry);
    if (source || document.hidden) return;
    source = new EventSource(stream);
    source.addEventListener("open", (event) => { if (event.data) later(0); });
    source.addEventListener("changed", () => later(PAUSE));
    source.addEventListener("contact.erased", erased);
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      source = null;
      retry = setTimeout(listen, 60000);
    });
  };
  const rest = () => { source?.close(); source = null; };
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });

  // First comes what the page itself asks for. The stream says where it begins, and that is looked at.
  let asking = 0, begin = setTimeout(listen, QUIET);
  document.addEventListener("htmx:beforeRequest", () => { asking += 1; clearTimeout(begin); });
  document.addEventListener("htmx:afterRequest", () => {
    asking -= 1;
    if (!source && asking <= 0) { clearTimeout(begin); begin = setTimeout(listen, QUIET); }
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!event.detail.live && one("#pane")?.contains(event.detail.target)) touched = true;
    if (!event.detail.live && event.detail.target.id === "results") known.set("#results", "");
  });
})();
