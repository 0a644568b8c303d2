// Of each piece of text that is seen: its contrast with what is behind it (WCAG 2).
() => {
  const channel = (value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parts = (colour) => {
    const values = colour.match(/[\d.]+/g).map(Number);
    const isShare = colour.startsWith("color(srgb");
    return isShare ? values.map((one, n) => (n < 3 ? 255 * one : one)) : values;
  };
  const over = ([r, g, b, alpha = 1], ground) =>
    [r, g, b].map((one, n) => one * alpha + ground[n] * (1 - alpha));
  const behind = (one) => {
    const own = parts(getComputedStyle(one).backgroundColor);
    return over(own, one.parentElement ? behind(one.parentElement) : [255, 255, 255]);
  };
  const result = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    const isSeen = one.checkVisibility({ visibilityProperty: true });
    if (!walker.currentNode.data.trim() || !isSeen || one.closest(":disabled, option")) continue;
    const ground = behind(one);
    const both = [light(over(parts(getComputedStyle(one).color), ground)), light(ground)];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    result.push({ text: walker.currentNode.data.slice(0, 30), ratio });
  }
  return result;
}
