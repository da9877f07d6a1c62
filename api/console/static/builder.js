"use strict";
// Builds a condition (docs/conditions.md) as sentences. The textarea beside it holds the same as
// JSON; each change counts whom the condition holds of. Inside of a definition (definition.js) the
// condition stays as bare as it was, and is counted once somebody comes to it.
(() => {
  const { number } = window.console_;
  const known = JSON.parse(document.getElementById("vocabulary").textContent);
  const other = { user: "account", account: "user" };
  let ids = 0;

  const el = (tag, props = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(props)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name in element && name !== "list") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };

  const OPS = {
    is: "is", is_not: "is not", in: "is one of", not_in: "is none of", contains: "contains",
    starts_with: "starts with", greater: "is greater than", at_least: "is at least",
    less: "is less than", at_most: "is at most", between: "is between", before: "is before",
    after: "is after", in_period: "is in", in_next_days: "is in the next",
    more_than_days_ago: "is more than", is_set: "is set", is_not_set: "is not set",
  };
  const EQUAL = ["is", "is_not", "in", "not_in"], SET = ["is_set", "is_not_set"];
  const NUMBERS = ["greater", "at_least", "less", "at_most", "between"];
  const FITS = {
    string: [...EQUAL, "contains", "starts_with", ...SET],
    number: [...EQUAL, ...NUMBERS, ...SET],
    boolean: [...EQUAL, ...SET],
    date: ["before", "after", "in_period", "in_next_days", "more_than_days_ago", ...SET],
    list: ["contains", ...SET],
    metadata: [...EQUAL, "contains", "starts_with", ...NUMBERS, "before", "after", ...SET],
  };
  const PERIODS = {
    ever: "at any time", last_days: "in the last", today: "today", yesterday: "yesterday",
    this_week: "this week", last_week: "last week", this_month: "this month",
    last_month: "last month", this_quarter: "this quarter", last_quarter: "last quarter",
    this_year: "this year", last_year: "last year", since: "since", between: "between",
  };
  const COUNTS = {
    occurred: "at least once", did_not_occur: "not once", at_least: "at least",
    at_most: "at most", exactly: "exactly",
  };
  const ATTRIBUTES = {
    user: { name: "string", external_id: "string", email: "string", first_seen: "date", last_seen: "date", registered_at: "date" },
    account: { name: "string", external_id: "string", domain: "string", first_seen: "date", last_seen: "date", registered_at: "date" },
  };
  const words = (text) => text.replaceAll("_", " ");
  const today = () => new Date().toISOString().slice(0, 10);
  const same = (list) => list.map((one) => [one, words(one)]);

  const TYPES = (kind) => [
    ["property", "property"], ["attribute", "on record"], ["activity", "did"], ["stage", "stage"],
    ["health", "health"], ["score", "score"], ["signal", "signal"], ["segment", "segment"],
    ["membership", kind === "user" ? "belongs to an account" : "has a user"],
    kind === "user" ? ["accounts", "accounts of whom"] : ["users", "users of whom"],
    ["all", "all of"], ["any", "any of"], ["not", "not"],
  ];

  const fresh = (type, kind) => {
    const property = Object.keys(known.properties[kind])[0] ?? "";
    switch (type) {
      case "property": return { type, name: property, test: freshTest(known.properties[kind][property] ?? "string") };
      case "attribute": return { type, name: "last_seen", test: freshTest("date") };
      case "activity": return { type, activity: "event", name: known.activities.event[0] ?? "", count: { op: "occurred" }, period: null, where: [] };
      case "stage": return { type, stages: [known.stages[kind][0] ?? null] };
      case "health": return { type, health: ["good"] };
      case "score": return { type, score: known.scores[kind][0] ?? "", test: { op: "at_least", value: 50 } };
      case "signal": return { type, signal: known.signals[kind][0] ?? "", on: true };
      case "segment": return { type, segment: known.segments[kind][0]?.[0] ?? "" };
      case "membership": return { type, other: null, role: null, ended: false };
      case "accounts": case "users": return { type, quantifier: { op: "any" }, where: { type: "all", of: [] } };
      case "not": return { type, of: fresh("property", kind) };
      default: return { type, of: [] };
    }
  };
  const freshTest = (type) => testOf(FITS[type][0], type, {});
  const scalar = (type) => ({ number: 0, boolean: true })[type] ?? "";
  const testOf = (op, type, old) => {
    const value = old.value ?? old.values?.[0] ?? old.low ?? scalar(type);
    switch (op) {
      case "is": case "is_not": return { op, value };
      case "in": case "not_in": return { op, values: old.values ?? [value] };
      case "contains": case "starts_with": return { op, value: String(value) };
      case "between": return { op, low: Number(value) || 0, high: old.high ?? (Number(value) || 0) };
      case "before": case "after": return { op, at: old.at ?? today() };
      case "in_period": return { op, period: { type: "last_days", days: 30 } };
      case "in_next_days": case "more_than_days_ago": return { op, days: old.days ?? 30 };
      case "is_set": case "is_not_set": return { op };
      default: return { op, value: Number(value) || 0 };
    }
  };

  class Builder {
    constructor(root, told = () => {}) {
      this.root = root;
      this.told = told;
      this.kind = root.dataset.kind;
      this.inside = root.dataset.inside !== undefined;
      this.quiet = this.inside;
      this.text = root.querySelector("textarea");
      this.tree = root.querySelector("[data-tree]");
      this.line = root.querySelector("[data-count]");
      this.text.addEventListener("change", () => this.read());
      if (this.quiet) root.addEventListener("focusin", () => { this.quiet = false; this.count(); }, { once: true });
      this.read();
    }

    /** Whether the outermost group stands on the screen alone, around the one condition there is. */
    get bare() { return this.inside && this.wrapped && this.condition.type === "all" && this.condition.of.length === 1; }

    read() {
      try {
        const condition = JSON.parse(this.text.value || '{"type":"all","of":[]}');
        this.wrapped = !["all", "any"].includes(condition.type);
        this.condition = this.wrapped ? { type: "all", of: [condition] } : condition;
        this.text.removeAttribute("aria-invalid");
      } catch {
        this.text.setAttribute("aria-invalid", "true");
        return;
      }
      this.draw();
    }

    /** Draws all anew: after a change of what there is, not of a value. Focus stays. */
    draw() {
      const at = this.tree.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      this.keys = 0;
      try {
        this.tree.replaceChildren(this.node(this.condition, "", this.kind, (to) => { this.condition = to; }, null));
      } catch {
        this.tree.replaceChildren(el("p", { className: "none" }, "This JSON is no condition that can be drawn; the service says what is wrong with it."));
      }
      if (at) this.tree.querySelector(`[data-key="${at}"]`)?.focus();
      this.changed();
    }

    changed() {
      const condition = this.bare ? this.condition.of[0] : this.condition;
      if (document.activeElement !== this.text) this.text.value = JSON.stringify(condition, null, 1);
      this.told(condition);
      clearTimeout(this.timer);
      if (this.line && !this.quiet) this.timer = setTimeout(() => this.count(), 300);
    }

    async count() {
      this.asked?.abort();
      this.asked = new AbortController();
      this.root.setAttribute("aria-busy", "true");
      try {
        const answer = await fetch("/console/segments/preview", {
          method: "POST", signal: this.asked.signal,
          headers: { "Content-Type": "application/json", "X-CSRF-Token": document.body.dataset.token },
          body: JSON.stringify({ kind: this.kind, condition: JSON.parse(this.text.value), sample: 5 }),
        });
        if (answer.redirected || answer.status === 401) { location.reload(); return; }
        this.show(await answer.json());
      } catch (error) {
        if (error.name !== "AbortError") this.line.replaceChildren("The count cannot be had now.");
      }
      this.root.removeAttribute("aria-busy");
    }

    show(answer) {
      for (const old of this.tree.querySelectorAll(".complaint")) old.remove();
      for (const old of this.tree.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
      if (answer.detail === undefined) {
        const names = answer.sample.map((one) => el("a", { href: `/console/${this.kind}s/${one.id}`, dir: "auto" }, one.name ?? one.email ?? one.domain ?? one.external_id ?? one.id.slice(0, 8)));
        const noun = answer.count === 1 ? this.kind : `${this.kind}s`;
        const listed = names.flatMap((name, n) => (n ? [", ", name] : [name]));
        this.line.replaceChildren(el("b", {}, number(answer.count)), ` ${noun} `, el("span", { className: "none" }, ...(listed.length ? ["such as ", ...listed] : [])));
        return;
      }
      this.line.replaceChildren(el("span", { className: "error" }, answer.detail));
      if (answer.code === "not-ready") { this.line.replaceChildren(answer.detail); this.timer = setTimeout(() => this.count(), 2000); return; }
      this.complain(answer.detail, (answer.place ?? "").replace(/^\/condition/, ""));
    }

    /** Says what is wrong beside the field at a JSON pointer into the condition. */
    complain(detail, pointer) {
      const place = this.bare ? `/of/0${pointer}` : pointer;
      let best = null;
      for (const node of this.tree.querySelectorAll("[data-path]")) {
        if ((place + "/").startsWith(node.dataset.path + "/") && (!best || node.dataset.path.length >= best.dataset.path.length)) best = node;
      }
      if (!best) return null;
      const id = `complaint-${++ids}`;
      best.append(el("p", { className: "complaint", id }, detail));
      const fields = [...best.querySelectorAll("[data-at]")].filter((field) => field.dataset.at && (place === field.dataset.at || place.startsWith(field.dataset.at + "/")));
      for (const field of fields) {
        field.setAttribute("aria-invalid", "true");
        field.setAttribute("aria-describedby", id);
      }
      return fields[0] ?? best;
    }

    key() { return `${this.keys++}`; }

    select(value, options, set, label, at) {
      const list = options.some(([one]) => one === value) ? options : [[value, value ? `${value} (unknown)` : "choose"], ...options];
      return el("select", { "aria-label": label, "data-key": this.key(), "data-at": at ?? "", onchange: (event) => set(list[event.target.selectedIndex][0]) },
        ...list.map(([one, title]) => el("option", { selected: one === value, value: String(one) }, title)));
    }

    input(type, value, set, label, at, options = {}) {
      const { suggestions, ...props } = options;
      const field = el("input", { type, value: value ?? "", "aria-label": label, "data-key": this.key(), "data-at": at ?? "", spellcheck: false, ...props });
      if (type === "number") { field.classList.add("number-of"); field.step = props.step ?? "any"; }
      field.addEventListener("input", () => {
        if (type === "number") { if (field.value !== "" && Number.isFinite(field.valueAsNumber)) set(field.valueAsNumber); }
        else set(field.value);
        this.changed();
      });
      if (!suggestions?.length) return field;
      const id = `suggestions-${++ids}`;
      field.setAttribute("list", id);
      return el("span", {}, field, el("datalist", { id }, ...suggestions.map((one) => el("option", { value: one }))));
    }

    whole(value, set, label, at, min = 1) {
      return this.input("number", value, (to) => set(Math.round(to)), label, at, { min, step: 1 });
    }

    button(title, act, label) {
      return el("button", { type: "button", className: "quiet", "data-key": this.key(), "aria-label": label ?? title, onclick: () => { act(); this.draw(); } }, title);
    }

    node(node, path, kind, set, remove) {
      const again = (to) => { set(to); this.draw(); };
      const type = this.select(node.type, TYPES(kind), (to) => again(this.turned(node, to, kind)), "Kind of condition", `${path}/type`);
      const away = remove ? this.button("×", remove, "Take this condition away") : null;
      if (["all", "any", "not"].includes(node.type)) return this.group(node, path, kind, type, away);
      if (["accounts", "users"].includes(node.type)) return this.across(node, path, kind, type, away);
      return el("div", { className: "node", "data-path": path }, type, ...this.leaf(node, path, kind), away);
    }

    /** A node of another type, with what is in it where that fits. */
    turned(node, type, kind) {
      const groups = ["all", "any"];
      if (groups.includes(node.type) && groups.includes(type)) return { ...node, type };
      if (groups.includes(type)) return { type, of: node.type === "not" ? [node.of] : [node] };
      if (type === "not") return { type, of: node };
      return fresh(type, kind);
    }

    group(node, path, kind, type, away) {
      const says = { all: "hold:", any: "holds:", not: "this:" }[node.type];
      const head = el("div", { className: "head" }, type, el("span", {}, says), away);
      const parts = node.type === "not"
        ? [this.node(node.of, `${path}/of`, kind, (to) => { node.of = to; }, null)]
        : node.of.map((part, n) => this.node(part, `${path}/of/${n}`, kind, (to) => { node.of[n] = to; }, () => node.of.splice(n, 1)));
      const empty = node.type !== "not" && !node.of.length ? el("p", { className: "none" }, node.type === "all" ? "no condition: everybody" : "no condition: nobody") : null;
      const foot = node.type === "not" ? null : el("div", {},
        this.button("+ condition", () => node.of.push(fresh("property", kind)), "Add a condition here"),
        this.button("+ group", () => node.of.push({ type: node.type === "all" ? "any" : "all", of: [] }), "Add a group here"));
      return el("div", { className: "group", role: "group", "aria-label": `${node.type} of`, "data-path": path }, head, ...parts, empty, foot);
    }

    across(node, path, kind, type, away) {
      const quantifier = node.quantifier;
      const choose = this.select(quantifier.op, [["any", "any"], ["every", "every one"], ["at_least", "at least"]], (op) => {
        node.quantifier = op === "at_least" ? { op, count: 2 } : { op };
        this.draw();
      }, "How many of them", `${path}/quantifier/op`);
      const count = quantifier.op === "at_least" ? this.whole(quantifier.count, (to) => { quantifier.count = to; }, "Count", `${path}/quantifier/count`) : null;
      const where = this.node(node.where, `${path}/where`, other[kind], (to) => { node.where = to; }, null);
      return el("div", { className: "group", "data-path": path }, el("div", { className: "head" }, type, choose, count, el("span", {}, "is so:"), away), where);
    }

    leaf(node, path, kind) {
      switch (node.type) {
        case "property": {
          const types = known.properties[kind];
          const of = types[node.name] ?? "string";
          return [
            this.select(node.name, Object.keys(types).map((one) => [one, one]), (name) => { node.name = name; node.test = freshTest(types[name]); this.draw(); }, "Property", `${path}/name`),
            ...this.test(node, "test", of, path, known.values[kind]?.[node.name]),
          ];
        }
        case "attribute":
          return [
            this.select(node.name, same(Object.keys(ATTRIBUTES[kind])), (name) => { node.name = name; node.test = freshTest(ATTRIBUTES[kind][name]); this.draw(); }, "What is on record", `${path}/name`),
            ...this.test(node, "test", ATTRIBUTES[kind][node.name] ?? "string", path),
          ];
        case "activity": return this.did(node, path);
        case "stage": return [this.picks(node, "stages", [...known.stages[kind].map((one) => [one, one]), [null, "no stage"]], `${path}/stages`)];
        case "health": return [this.picks(node, "health", [["good", "● good"], ["normal", "◐ normal"], ["bad", "○ bad"]], `${path}/health`)];
        case "score":
          return [this.select(node.score, known.scores[kind].map((one) => [one, one]), (to) => { node.score = to; this.changed(); }, "Score", `${path}/score`), ...this.test(node, "test", "number", path)];
        case "signal":
          return [
            this.select(node.signal, known.signals[kind].map((one) => [one, one]), (to) => { node.signal = to; this.changed(); }, "Signal", `${path}/signal`),
            this.select(node.on, [[true, "is on"], [false, "is off"]], (to) => { node.on = to; this.changed(); }, "On or off", `${path}/on`),
          ];
        case "segment": return [this.select(node.segment, known.segments[kind], (to) => { node.segment = to; this.changed(); }, "Segment", `${path}/segment`)];
        case "membership":
          return [
            this.select(Boolean(node.ended), [[false, "now"], [true, "in the past, no more"]], (to) => { node.ended = to; this.changed(); }, "Now or in the past", `${path}/ended`),
            "as", this.input("text", node.role, (to) => { node.role = to || null; }, "Role; empty: any", `${path}/role`, { placeholder: "any role" }),
            "of", this.input("text", node.other, (to) => { node.other = to.trim() || null; }, `Annals' id of the ${other[kind]}; empty: any`, `${path}/other`, { placeholder: `any ${other[kind]} (our id)` }),
          ];
        default: return [el("span", { className: "none" }, JSON.stringify(node))];
      }
    }

    did(node, path) {
      const count = node.count ?? { op: "occurred" }, names = known.activities[node.activity] ?? [];
      node.where ??= [];
      const choose = node.activity === "event" || node.activity === "screen"
        ? this.select(node.name, names.map((one) => [one, one]), (to) => { node.name = to; this.changed(); }, "Name", `${path}/name`)
        : this.input("text", node.name, (to) => { node.name = to; }, "Name", `${path}/name`, { suggestions: names, placeholder: node.activity === "page" ? "host/path" : "name" });
      return [
        this.select(node.activity, same(["event", "screen", "page", "channel", "campaign"]), (to) => { node.activity = to; node.name = known.activities[to]?.[0] ?? ""; this.draw(); }, "What was done", `${path}/activity`),
        choose,
        this.select(count.op, Object.entries(COUNTS), (op) => { node.count = ["at_least", "at_most", "exactly"].includes(op) ? { op, times: count.times ?? 1 } : { op }; this.draw(); }, "How often", `${path}/count/op`),
        "times" in count ? this.whole(count.times, (to) => { count.times = to; }, "Times", `${path}/count/times`, 0) : null,
        "times" in count ? "times" : null,
        ...this.period(node, "period", path, true),
        this.button("+ where", () => node.where.push({ name: "", test: { op: "is", value: "" } }), "Add a where: a test of its metadata"),
        node.where.length ? el("div", { className: "where" }, ...node.where.map((one, n) => el("div", { "data-path": `${path}/where/${n}` },
          n ? "and" : "where", this.input("text", one.name, (to) => { one.name = to; }, "Name of the metadata", `${path}/where/${n}/name`, { placeholder: "metadata" }),
          ...this.test(one, "test", "metadata", `${path}/where/${n}`),
          this.button("×", () => node.where.splice(n, 1), "Take this test away")))) : null,
      ];
    }

    period(owner, field, path, ever) {
      const period = owner[field] ?? { type: "ever" };
      const set = (type) => {
        owner[field] = type === "ever" ? null : type === "last_days" ? { type, days: period.days ?? 30 } : type === "since" ? { type, day: today() } : type === "between" ? { type, first: today(), last: today() } : { type };
        this.draw();
      };
      const options = Object.entries(PERIODS).filter(([one]) => ever || one !== "ever");
      const day = (name, label) => this.input("date", period[name], (to) => { period[name] = to; }, label, `${path}/${field}/${name}`);
      return [
        this.select(period.type, options, set, "When", `${path}/${field}/type`),
        ...(period.type === "last_days" ? [this.whole(period.days, (to) => { period.days = to; }, "Days", `${path}/${field}/days`), "days"] : []),
        ...(period.type === "since" ? [day("day", "Since")] : []),
        ...(period.type === "between" ? [day("first", "From"), "and", day("last", "To")] : []),
      ];
    }

    picks(node, field, options, at) {
      return el("span", { className: "picks", "data-at": at }, ...options.map(([value, title]) => el("label", {},
        el("input", { type: "checkbox", "data-key": this.key(), checked: node[field].includes(value), onchange: (event) => {
          node[field] = event.target.checked ? [...node[field], value] : node[field].filter((one) => one !== value);
          this.changed();
        } }), ` ${title}`)));
    }

    test(owner, field, type, path, suggestions) {
      const test = owner[field], at = `${path}/${field}`;
      const choose = this.select(test.op, FITS[type].map((one) => [one, OPS[one]]), (op) => { owner[field] = testOf(op, type, test); this.draw(); }, "Test", `${at}/op`);
      const put = (name) => (to) => { test[name] = to; };
      switch (test.op) {
        case "is": case "is_not": return [choose, ...this.scalar(test, "value", type, `${at}/value`, suggestions)];
        case "in": case "not_in": return [choose, this.lines(test, type, `${at}/values`)];
        case "contains": case "starts_with": return [choose, this.input("text", test.value, put("value"), "Text", `${at}/value`, { suggestions })];
        case "between": return [choose, this.input("number", test.low, put("low"), "Least", `${at}/low`), "and", this.input("number", test.high, put("high"), "Greatest", `${at}/high`)];
        case "before": case "after": return [choose, this.input(String(test.at).includes("T") ? "text" : "date", test.at, put("at"), "Day", `${at}/at`)];
        case "in_period": return [choose, ...this.period(test, "period", at, false)];
        case "in_next_days": return [choose, this.whole(test.days, put("days"), "Days", `${at}/days`), "days"];
        case "more_than_days_ago": return [choose, this.whole(test.days, put("days"), "Days", `${at}/days`), "days ago"];
        case "is_set": case "is_not_set": return [choose];
        default: return [choose, this.input("number", test.value, put("value"), "Number", `${at}/value`)];
      }
    }

    scalar(test, name, type, at, suggestions) {
      const value = test[name];
      const of = type === "metadata" ? (typeof value === "boolean" ? "boolean" : typeof value === "number" ? "number" : "string") : type;
      const put = (to) => { test[name] = to; };
      const field = of === "boolean" ? this.select(value, [[true, "yes"], [false, "no"]], (to) => { put(to); this.changed(); }, "Value", at)
        : of === "number" ? this.input("number", value, put, "Number", at)
        : this.input("text", value, put, "Text", at, { suggestions });
      if (type !== "metadata") return [field];
      return [field, this.select(of, [["string", "text"], ["number", "number"], ["boolean", "yes or no"]], (to) => { put(to === "string" ? String(value) : to === "number" ? Number(value) || 0 : true); this.draw(); }, "Type of the value")];
    }

    lines(test, type, at) {
      const read = (text) => (type === "number" ? Number(text) : type === "boolean" ? text === "true" : text);
      return el("textarea", { rows: 2, "aria-label": "Values, one a line", "data-key": this.key(), "data-at": at, value: test.values.join("\n"), placeholder: "one a line", oninput: (event) => {
        test.values = event.target.value.split("\n").filter((one) => one !== "").map(read);
        this.changed();
      } });
    }
  }

  const begin = (root) => { for (const one of root.querySelectorAll("[data-builder]:not([data-begun])")) { one.dataset.begun = ""; new Builder(one); } };
  addEventListener("DOMContentLoaded", () => begin(document));
  document.addEventListener("builders", (event) => begin(event.target));
  Object.assign(window.console_, { Builder, el, known });
})();
