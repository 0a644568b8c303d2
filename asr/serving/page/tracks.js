// What lies under the wave on the same axis of time: rows of words and phones, and maps of values.
//
// Only what is visible is in the document, so that a recording may have any number of phones.

const GAP = 1; // pixels between neighbours
const LETTER = 6; // and at least so many for each letter, where a text is shown

/** All tracks of a recording, in one element that scrolls. */
export class Tracks {
  /** `scrolled(pixels)` is called when a person scrolls the tracks. */
  constructor(element, duration_s, scrolled) {
    this.element = element;
    this.duration_s = duration_s;
    this.tracks = [];
    element.replaceChildren();
    this.inner = document.createElement("div");
    this.inner.className = "inner";
    element.append(this.inner);
    element.onscroll = () => {
      scrolled(element.scrollLeft);
      this.draw();
    };
  }

  add(track, before = null) {
    const place = before ? this.tracks.indexOf(before) : this.tracks.length;
    this.tracks.splice(place, 0, track);
    this.inner.insertBefore(track.element, before?.element ?? null);
    track.all = this;
    this.draw(true);
    return track;
  }

  remove(track) {
    this.tracks = this.tracks.filter((one) => one !== track);
    track.element.remove();
  }

  /** The width of the whole recording, in pixels. */
  set width(pixels) {
    this.inner.style.width = `${pixels}px`;
    this.pixels = pixels;
    this.draw(true);
  }

  get scale() {
    return this.pixels / this.duration_s; // pixels in a second
  }

  /** What is visible, in seconds. */
  get visible() {
    const { scrollLeft, clientWidth } = this.element;
    return [scrollLeft / this.scale, Math.min(this.duration_s, (scrollLeft + clientWidth) / this.scale)];
  }

  show(start_s, end_s) {
    const [from, to] = this.visible;
    if (start_s < from || end_s > to) {
      this.element.scrollLeft = ((start_s + end_s) / 2) * this.scale - this.element.clientWidth / 2;
      this.draw(true);
    }
  }

  draw(anew = false) {
    if (this.pixels) for (const track of this.tracks) track.draw(anew);
  }

  rows() {
    return this.tracks.filter((track) => track instanceof Row && track.items.length);
  }

  /** Mark what is heard at a time; null: nothing. */
  mark(time_s) {
    for (const track of this.rows()) track.mark(time_s);
  }
}

/** A caption that stays at the left, above what it names. */
function framed(kind, caption, label) {
  const element = document.createElement("section");
  element.className = `track ${kind}`;
  element.setAttribute("aria-label", label ?? caption);
  const title = document.createElement("p");
  title.className = "caption";
  title.textContent = caption;
  title.setAttribute("aria-hidden", "true");
  element.append(title);
  return element;
}

/** A row of buttons: items {start_s, end_s, text, label, mark?, strength?, title?}.
 *
 * `strength` from 0 to 1 shades the button; `mark` is a class of it. `play(item)` is called where one
 * is clicked, `about(item)` where it gets the focus.
 */
export class Row {
  constructor(caption, items, { play, about, kind = "phones" }) {
    this.items = items;
    this.play = play;
    this.about = about;
    this.current = 0;
    this.buttons = new Map();
    this.element = framed(`row-of-${kind}`, caption);
    this.lane = document.createElement("div");
    this.lane.className = "lane";
    this.lane.setAttribute("role", "group");
    this.lane.setAttribute("aria-label", `${caption}: ${items.length}`);
    this.element.append(this.lane);
    this.lane.onkeydown = (event) => this.#key(event);
    this.lane.onclick = ({ target }) => this.#of(target, (n) => this.#chosen(n, true));
    this.lane.addEventListener("focusin", ({ target }) => this.#of(target, (n) => this.#chosen(n, false)));
  }

  #of(target, action) {
    const button = target.closest("button");
    if (button) action(Number(button.dataset.n));
  }

  #chosen(n, played) {
    const before = this.current;
    this.current = n;
    for (const one of [before, n]) {
      const button = this.buttons.get(one);
      if (button) button.tabIndex = one === n ? 0 : -1;
    }
    this.about(this.items[n]);
    if (played) this.play(this.items[n]);
  }

  /** The item at a time, or the nearest one. */
  at(time_s) {
    let low = 0, high = this.items.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].end_s < time_s) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  focus(n) {
    const item = this.items[n];
    this.all.show(item.start_s, item.end_s);
    this.draw();
    this.buttons.get(n)?.focus({ preventScroll: true });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.items.length - 1;
    const step = { ArrowLeft: this.current - 1, ArrowRight: this.current + 1, Home: 0, End: last }[event.key];
    if (step !== undefined) {
      this.focus(Math.max(0, Math.min(last, step)));
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const rows = this.all.rows();
      const row = rows[rows.indexOf(this) + (event.key === "ArrowUp" ? -1 : 1)];
      const { start_s, end_s } = this.items[this.current];
      row?.focus(row.at((start_s + end_s) / 2));
    } else return;
    event.preventDefault();
  }

  mark(time_s) {
    const n = time_s === null ? -1 : this.at(time_s);
    const is = n >= 0 && this.items[n]?.start_s <= time_s && time_s < this.items[n].end_s;
    if (this.marked !== undefined) this.buttons.get(this.marked)?.classList.remove("now");
    this.marked = is ? n : undefined;
    if (is) this.buttons.get(n)?.classList.add("now");
  }

  draw(anew = false) {
    if (!this.items.length) return;
    const [from, to] = this.all.visible;
    const margin = to - from;
    const first = this.at(from - margin);
    const last = this.at(to + margin);
    const focused = this.lane.contains(document.activeElement) ? Number(document.activeElement.dataset.n) : null;
    for (const [n, button] of this.buttons) {
      if ((n < first || n > last) && n !== focused && n !== this.current) {
        button.remove();
        this.buttons.delete(n);
      }
    }
    const wanted = new Set([this.current]);
    for (let n = first; n <= last; n++) wanted.add(n);
    for (const n of wanted) {
      const is = this.buttons.has(n);
      if (is && !anew) continue;
      const button = is ? this.buttons.get(n) : this.#button(n);
      const { start_s, end_s } = this.items[n];
      const scale = this.all.scale;
      const width = Math.max(2, (end_s - start_s) * scale - GAP);
      button.style.left = `${start_s * scale}px`;
      button.style.width = `${width}px`;
      button.classList.toggle("narrow", width < LETTER * this.items[n].text.length);
    }
    // in order for screen readers; those that are there already are not moved, and keep the focus
    let place = this.lane.firstChild;
    for (const n of [...this.buttons.keys()].sort((a, b) => a - b)) {
      const button = this.buttons.get(n);
      if (button === place) place = place.nextSibling;
      else this.lane.insertBefore(button, place);
    }
  }

  #button(n) {
    const { text, label, mark, strength, title } = this.items[n];
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.n = n;
    button.tabIndex = n === this.current ? 0 : -1;
    button.setAttribute("aria-label", label);
    button.title = title ?? label;
    if (mark) button.classList.add(mark);
    if (strength !== undefined) button.style.setProperty("--strength", strength.toFixed(3));
    const shown = document.createElement("span");
    shown.textContent = text;
    button.append(shown);
    this.buttons.set(n, button);
    return button;
  }
}

/** A map of values from 0 to 255: `steps` columns of `rows` values each, as they come in time. */
export class ValueMap {
  /** `names` of the rows are written at the left; `about(time_s, row, value)` of what is pointed at. */
  constructor(caption, { values, rows, step_s, start_s, names, height, colour, about, label, order }) {
    Object.assign(this, { values, rows, step_s, start_s, names, height, colour, about });
    this.steps = values.length / rows;
    this.order = order ?? [...Array(rows).keys()]; // the rows that are shown, from above
    this.element = framed("map", caption, label);
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label ?? caption);
    this.canvas.style.height = `${height}px`;
    this.element.append(this.canvas);
    this.canvas.onpointermove = this.canvas.onpointerdown = (event) => this.#point(event);
  }

  #point({ offsetX, offsetY }) {
    const time_s = (this.all.element.scrollLeft + offsetX) / this.all.scale;
    const step = Math.round((time_s - this.start_s) / this.step_s);
    const place = this.order[Math.floor((offsetY / this.height) * this.order.length)];
    if (place === undefined || step < 0 || step >= this.steps) return;
    this.about(time_s, place, this.values[step * this.rows + place] / 255);
  }

  draw() {
    const { clientWidth } = this.all.element;
    const density = globalThis.devicePixelRatio || 1;
    const width = Math.round(clientWidth * density);
    const height = Math.round(this.height * density);
    const context = this.canvas.getContext("2d");
    this.canvas.width = width;
    this.canvas.height = height;
    this.canvas.style.width = `${clientWidth}px`;
    const [from, to] = this.all.visible;
    const first = Math.max(0, Math.floor((from - this.start_s) / this.step_s - 0.5));
    const last = Math.min(this.steps, Math.ceil((to - this.start_s) / this.step_s + 0.5) + 1);
    if (last <= first) return;
    const shown = this.order.length;
    const picture = new ImageData(last - first, shown);
    const [red, green, blue] = this.colour();
    for (let step = first; step < last; step++) {
      for (let row = 0; row < shown; row++) {
        const at = 4 * (row * (last - first) + step - first);
        picture.data.set([red, green, blue, this.values[step * this.rows + this.order[row]]], at);
      }
    }
    const raw = new OffscreenCanvas(last - first, shown);
    raw.getContext("2d").putImageData(picture, 0, 0);
    const scale = this.all.scale * density;
    const left = (this.start_s + (first - 0.5) * this.step_s - from) * scale;
    context.imageSmoothingEnabled = shown > height;
    context.drawImage(raw, left, 0, (last - first) * this.step_s * scale, height);
    if (!this.names) return;
    const size = Math.min(11, this.height / shown) * density;
    const style = getComputedStyle(this.canvas);
    context.font = `${size}px ${style.fontFamily}`;
    context.textBaseline = "middle";
    this.order.forEach((row, place) => {
      const y = ((place + 0.5) * height) / shown;
      const name = this.names[row];
      context.fillStyle = style.backgroundColor;
      context.globalAlpha = 0.75;
      context.fillRect(0, y - size / 2, context.measureText(name).width + 6 * density, size);
      context.globalAlpha = 1;
      context.fillStyle = style.color;
      context.fillText(name, 3 * density, y);
    });
  }
}
