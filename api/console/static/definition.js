"use strict";
// A definition (docs/definitions.md) as a form, each condition in sentences (builder.js). The
// textarea below it holds the same as JSON and is what is sent; what is refused is said beside the
// field that the service names.
(() => {
  const { Builder, el, known, say } = window.console_;
  const TYPES = ["free", "trial", "paying", "churned", "other"];
  const everybody = () => ({ type: "all", of: [] });
  let ids = 0;

  const EXPLAINED = {
    stages: "The first stage whose condition holds is the one; where none holds, there is no stage.",
    health_profile: "Good is tested first, then bad; else health is normal.",
    score: "The weight of the rules that hold, by the weight of all: 0 to 100 %.",
    signal: "On while its condition holds; turning on, it triggers.",
  };

  class Form {
    constructor(root) {
      this.root = root;
      this.text = root.querySelector("textarea[name=definition]");
      this.fields = root.querySelector("[data-fields]");
      this.builders = new Map();
      this.text.addEventListener("change", () => this.read());
      this.read();
      this.complain();
    }

    read() {
      try {
        this.definition = JSON.parse(this.text.value);
        this.builders.clear();
        this.fields.replaceChildren(...this.drawn(this.definition));
        this.text.removeAttribute("aria-invalid");
      } catch {
        this.text.setAttribute("aria-invalid", "true");
        this.text.closest("details").open = true;
        this.fields.replaceChildren(el("p", { className: "none" }, "What stands below is no definition that can be drawn; the service says what is wrong with it."));
      }
    }

    changed() {
      if (document.activeElement !== this.text) this.text.value = JSON.stringify(this.definition, null, 2);
    }

    drawn(definition) {
      if (!Object.hasOwn(EXPLAINED, definition.type)) throw new TypeError("no such definition");
      const name = this.labelled("Name", this.input("text", definition, "name", { maxLength: 200 }), "/name");
      return [el("p", { className: "none" }, EXPLAINED[definition.type]), name, ...this[definition.type](definition)];
    }

    stages(definition) {
      return [this.list(definition.stages, {
        noun: "stage",
        place: "/stages",
        fresh: () => ({ name: "", type: "other", condition: everybody() }),
        fields: (stage, place) => [
          this.labelled("Name", this.input("text", stage, "name"), `${place}/name`),
          this.labelled("Type", this.select(stage, "type", TYPES), `${place}/type`),
        ],
      })];
    }

    health_profile(definition) {
      const names = [...new Set([...known.stages[definition.kind], ...definition.stages.filter((one) => one !== null), null])];
      const box = (name) => {
        const title = name ?? "no stage";
        const set = (event) => {
          definition.stages = event.target.checked ? [...definition.stages, name] : definition.stages.filter((one) => one !== name);
          this.changed();
        };
        const at = definition.stages.indexOf(name);
        return el("label", { "data-place": `/stages/${at < 0 ? "none" : at}`, dir: "auto" }, el("input", { type: "checkbox", checked: at >= 0, onchange: set }), ` ${title}`);
      };
      return [
        el("fieldset", { className: "choices", "data-place": "/stages" }, el("legend", {}, "For these stages"), ...names.map(box)),
        this.perhaps(definition, "good", "Good where"),
        this.perhaps(definition, "bad", "Bad where"),
      ];
    }

    score(definition) {
      this.sum = el("p", { className: "sum", "aria-live": "polite" });
      const list = this.list(definition.rules, {
        noun: "rule",
        place: "/rules",
        fresh: () => ({ name: "", weight: 1, condition: everybody() }),
        fields: (rule, place) => [
          this.labelled("Name", this.input("text", rule, "name"), `${place}/name`),
          this.labelled("Weight", this.input("number", rule, "weight", { step: 1, className: "number-of" }), `${place}/weight`),
        ],
        counted: () => this.add(definition.rules),
      });
      return [list, this.sum];
    }

    /** Shows what the weights come to. */
    add(rules) {
      const sum = rules.reduce((all, rule) => all + (rule.weight ?? 0), 0);
      this.sum.replaceChildren("All weights together: ", el("b", {}, String(sum)));
      if (sum <= 0) this.sum.append(el("span", { className: "error" }, " has to be more than 0"));
    }

    signal(definition) {
      definition.goal ??= null;
      return [
        el("fieldset", {}, el("legend", {}, "On where"), this.condition(definition, "condition", "/condition", "On where")),
        this.labelled("Hours before it may trigger again; empty: it triggers once", this.input("number", definition, "reentry_hours", { step: 1, min: 1, className: "number-of" }), "/reentry_hours"),
        this.perhaps(definition, "goal", "With a goal", (has) => {
          definition.goal_hours = has ? definition.goal_hours ?? 720 : null;
          return has ? [this.labelled("Hours in which the goal has to be reached", this.input("number", definition, "goal_hours", { step: 1, min: 1, className: "number-of" }), "/goal_hours")] : [];
        }),
      ];
    }

    /** An ordered list of parts, each with a condition. */
    list(parts, { noun, place, fresh, fields, counted = () => {} }) {
      const items = el("ol", { className: "parts" });
      const count = () => {
        [...items.children].forEach((item, n) => { item.querySelector("legend").textContent = `${noun[0].toUpperCase()}${noun.slice(1)} ${n + 1}`; });
        counted();
        this.changed();
      };
      const item = (part, n) => {
        const move = (by) => (event) => {
          const from = parts.indexOf(part), to = from + by;
          if (to >= 0 && to < parts.length) {
            parts.splice(to, 0, ...parts.splice(from, 1));
            if (by < 0) drawn.previousElementSibling.before(drawn); else drawn.nextElementSibling.after(drawn);
            count();
            event.currentTarget.focus();
          }
          say(`${part.name || `This ${noun}`} is ${parts.indexOf(part) + 1} of ${parts.length}`);
        };
        const remove = () => {
          const next = drawn.nextElementSibling ?? drawn.previousElementSibling;
          parts.splice(parts.indexOf(part), 1);
          drawn.remove();
          count();
          (next?.querySelector("input") ?? more).focus();
        };
        const button = (title, label, onclick) => el("button", { type: "button", className: "quiet", "aria-label": `${label} this ${noun}`, title: `${label} this ${noun}`, onclick }, title);
        const drawn = el("li", {}, el("fieldset", { "data-place": `${place}/${n}` }, el("legend", {}),
          el("div", { className: "row" }, ...fields(part, `${place}/${n}`), el("span", { className: "space" }),
            button("↑", "Move up", move(-1)), button("↓", "Move down", move(1)), button("×", "Remove", remove)),
          this.condition(part, "condition", `${place}/${n}/condition`, "Where")));
        return drawn;
      };
      const more = el("button", { type: "button", onclick: () => {
        const part = fresh();
        parts.push(part);
        items.append(item(part, parts.length - 1));
        count();
        items.lastElementChild.querySelector("input").focus();
      } }, `Add a ${noun}`);
      items.append(...parts.map(item));
      items.addEventListener("input", counted);
      queueMicrotask(count);
      return el("div", { "data-place": place }, items, more);
    }

    /** A condition that there may or may not be, with what goes with it. */
    perhaps(owner, field, title, rest = () => []) {
      const held = el("div", { className: "held" });
      const show = () => held.replaceChildren(...(owner[field] ? [this.condition(owner, field, `/${field}`, title)] : []), ...rest(Boolean(owner[field])));
      const set = (event) => { owner[field] = event.target.checked ? everybody() : null; show(); this.changed(); };
      show();
      return el("fieldset", { "data-place": `/${field}` }, el("legend", {}, el("label", {}, el("input", { type: "checkbox", checked: Boolean(owner[field]), onchange: set }), ` ${title}`)), held);
    }

    condition(owner, field, place, label) {
      const text = el("textarea", { className: "mono", rows: 6, spellcheck: false, "aria-label": `${label}, as JSON`, value: JSON.stringify(owner[field]) });
      const root = el("div", { className: "builder", "data-begun": "", "data-inside": "", "data-kind": this.definition.kind, role: "group", "aria-label": label },
        el("div", { "data-tree": "" }), el("p", { className: "count-line", "data-count": "", "aria-live": "polite" }),
        el("details", {}, el("summary", {}, "As JSON"), text));
      this.builders.set(place, new Builder(root, (condition) => { owner[field] = condition; this.changed(); }));
      return root;
    }

    labelled(title, control, place) { return el("label", { "data-place": place }, el("span", {}, title), control); }

    input(type, owner, field, props = {}) {
      const read = (control) => (type !== "number" ? control.value : control.value === "" ? null : control.valueAsNumber);
      return el("input", { type, value: owner[field] ?? "", autocomplete: "off", dir: "auto", ...props, oninput: (event) => { owner[field] = read(event.target); this.changed(); } });
    }

    select(owner, field, options) {
      return el("select", { onchange: (event) => { owner[field] = event.target.value; this.changed(); } }, ...options.map((one) => el("option", { value: one, selected: one === owner[field] }, one)));
    }

    /** Moves what was refused to the field at the place that the service named. */
    complain() {
      const said = document.getElementById("wrong"), place = said?.dataset.place;
      if (!place) return;
      const inside = (at) => place === at || place.startsWith(`${at}/`);
      for (const [at, builder] of this.builders) {
        const field = inside(at) && builder.complain(said.dataset.detail, place.slice(at.length));
        if (!field) continue;
        said.remove();
        if (field.matches("input, select, textarea")) field.focus(); else field.scrollIntoView({ block: "center" });
        return;
      }
      const best = [...this.root.querySelectorAll("[data-place]")].filter((one) => inside(one.dataset.place)).sort((a, b) => b.dataset.place.length - a.dataset.place.length)[0];
      if (!best) return;
      const id = `refused-${++ids}`;
      const field = best.matches("label") ? best.querySelector("input, select, textarea") : best;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-describedby", id);
      best[best.matches("label") ? "after" : "append"](el("p", { className: "error", id, role: "alert" }, said.dataset.detail));
      said.remove();
      (best.matches("label") ? field : best.querySelector("input, button"))?.focus();
    }
  }

  addEventListener("DOMContentLoaded", () => { for (const one of document.querySelectorAll("[data-definition]")) new Form(one); });
})();
