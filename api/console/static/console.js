"use strict";
// What HTML cannot do by itself: menus that close, dialogs, chosen rows, columns by dragging,
// times in the reader's zone. Everything else is links, forms and htmx.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const number = (count) => count.toLocaleString("en");

  // Times: relative, with the exact one in the reader's zone on hover.
  const exact = new Intl.DateTimeFormat("sv", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
    second: "2-digit", timeZoneName: "short",
  });
  const toTheMinute = new Intl.DateTimeFormat("en-GB", {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  });
  // As a field for date and time has it: in the reader's zone.
  const asField = (at) => new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  const localize = (root) => {
    for (const field of all("[data-instant]", root)) {
      field.max = asField(new Date());
      if (field.dataset.instant) field.value = asField(new Date(field.dataset.instant));
    }
    for (const time of all("time[datetime*=T]:not([data-local])", root)) {
      time.dataset.local = "";
      time.title = exact.format(new Date(time.dateTime));
      if ("exact" in time.dataset) time.textContent = toTheMinute.format(new Date(time.dateTime));
    }
  };

  // A timeline is parted by the days of the reader's zone.
  const days = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const partByDay = () => {
    let last = null;
    for (const item of all("#happened > li")) {
      if (item.className === "day") { last = item.textContent; continue; }
      const time = one("time", item);
      if (!time) continue;
      const day = days.format(new Date(time.dateTime));
      if (day !== last) {
        const heading = document.createElement("li");
        heading.className = "day";
        heading.textContent = day;
        item.before(heading);
      }
      last = day;
    }
  };

  const grow = (root) => {
    for (const part of all("[data-grow]", root)) part.style.flexGrow = Math.max(+part.dataset.grow, 0.001);
  };

  // Filters stand open beside the list where there is room.
  const wide = matchMedia("(min-width: 641px)");
  const fold = () => { const filters = one("#filters-fold"); if (filters) filters.open = wide.matches; };
  wide.addEventListener("change", fold);

  const say = (text) => {
    const toast = one("#toast");
    toast.textContent = text;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => { toast.textContent = ""; }, 4000);
  };

  // Rows that are chosen: some of this page, or all that match.
  const chosen = () => {
    const form = one("#chosen");
    if (!form) return;
    const boxes = all("input[name=id][form=chosen]");
    const on = boxes.filter((box) => box.checked);
    const every = one("[data-pick-all]");
    every.checked = boxes.length > 0 && on.length === boxes.length;
    every.indeterminate = on.length > 0 && on.length < boxes.length;
    const note = one("#chosen-note");
    const total = +(one("#total").dataset.total || note.dataset.total || 0);
    const whole = one("#chosen-all");
    if (on.length < boxes.length) whole.value = "";
    const count = whole.value ? total : on.length;
    const button = one("#delete");
    button.disabled = count === 0;
    button.textContent = count ? `Delete ${number(count)}` : "Delete";
    const state = whole.value ? `all ${total}` : every.checked && total > on.length ? `${on.length} of ${total}` : "";
    if (note.dataset.state === state) return;  // or a click that is under way misses its button
    note.dataset.state = state;
    note.replaceChildren();
    if (whole.value) note.append(`All ${number(total)} that match are selected. `);
    else if (state) {
      const more = document.createElement("button");
      more.type = "button";
      more.textContent = `Select all ${number(total)} that match`;
      more.dataset.wholeList = "";
      note.append(`${on.length} on this page are selected. `, more);
    }
  };

  const open = (dialog) => { if (!dialog.open) dialog.showModal(); };

  document.addEventListener("formdata", (event) => {
    const field = one("[data-instant]", event.target);
    if (field) event.formData.set("as_of", new Date(field.value).toISOString());
  });

  document.addEventListener("click", (event) => {
    const target = event.target;
    for (const menu of all("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
    const opener = target.closest("[data-dialog]");
    if (opener) {
      const dialog = one(opener.dataset.dialog);
      const state = one("[data-state-of]", dialog);
      if (state) {
        state.replaceChildren();
        for (const [name, value] of new FormData(one(state.dataset.stateOf))) {
          if (name === "column") continue;
          const input = document.createElement("input");
          Object.assign(input, { type: "hidden", name, value });
          state.append(input);
        }
      }
      open(dialog);
    }
    if (target.closest("[data-close]")) target.closest("dialog").close();
    if (target.closest("[data-whole-list]")) { one("#chosen-all").value = "yes"; chosen(); one("#delete").focus(); }
    const copy = target.closest("[data-copy]");
    if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => say("Copied"), () => say("The browser does not let me copy"));
    const move = target.closest("[data-move]");
    if (move) {
      const item = move.closest("li");
      if (move.dataset.move < 0 && item.previousElementSibling) item.previousElementSibling.before(item);
      else if (move.dataset.move > 0 && item.nextElementSibling) item.nextElementSibling.after(item);
      move.focus();
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-pick-all]")) {
      for (const box of all("input[name=id][form=chosen]")) box.checked = event.target.checked;
    }
    if (event.target.matches("[data-pick-all], input[form=chosen]")) chosen();
  });

  document.addEventListener("input", (event) => {
    const find = event.target.dataset.find;
    if (find) {
      const text = event.target.value.toLowerCase();
      for (const item of all(find)) item.hidden = !item.dataset.name.includes(text);
    }
    const word = event.target.dataset.word;
    if (word) event.target.form.querySelector("[data-wants-word]").disabled = event.target.value !== word;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of all("details.menu[open]")) { menu.open = false; one("summary", menu).focus(); }
    if (event.key === "Enter" && event.target.dataset?.enter) { event.preventDefault(); one(event.target.dataset.enter).click(); }
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && one("#search, [data-search]")) { event.preventDefault(); one("#search, [data-search]").focus(); }
    if ((event.key === "j" || event.key === "k") && one(".contacts tbody")) {
      const links = all(".contacts tbody th a");
      const at = links.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
      links[Math.min(Math.max(at, 0), links.length - 1)]?.focus();
    }
    if (event.key === "x" && event.target.closest("tbody tr")) one("input[name=id]", event.target.closest("tr"))?.click();
  });

  // Columns are put in order by dragging, or by the arrows beside them.
  let dragged = null;
  document.addEventListener("dragstart", (event) => {
    dragged = event.target.closest?.(".sortable li") || null;
    if (dragged) event.dataTransfer.effectAllowed = "move";
  });
  document.addEventListener("dragover", (event) => {
    const over = event.target.closest?.(".sortable li");
    if (!dragged || !over) return;
    event.preventDefault();
    if (over === dragged) return;
    const box = over.getBoundingClientRect();
    if (event.clientY < box.top + box.height / 2) over.before(dragged); else over.after(dragged);
  });
  document.addEventListener("drop", (event) => { if (dragged) event.preventDefault(); });
  document.addEventListener("dragend", () => { dragged = null; });

  const dress = (root) => { localize(root); grow(root); partByDay(); };
  addEventListener("DOMContentLoaded", () => { fold(); dress(document); chosen(); });
  document.addEventListener("htmx:afterSwap", (event) => {
    dress(event.detail.target.isConnected ? event.detail.target : document);
    dress(document);
    const dialog = event.detail.target.id === "dialogs" && one("dialog", event.detail.target);
    if (dialog) open(dialog);
    chosen();
  });
  document.addEventListener("htmx:sendError", () => say("Annals cannot be reached; try again"));
  document.addEventListener("htmx:timeout", () => say("This takes too long; try again"));
  window.console_ = { all, one, number, say };
})();
