// Elements of the page.

export const byId = (id) => document.getElementById(id);

// setText writes a text, if it is another one.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// node makes an element of HTML.
export function node(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

// drawn makes an element of SVG.
export function drawn(name, attributes = {}, ...children) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [attribute, value] of Object.entries(attributes)) e.setAttribute(attribute, value);
  e.append(...children);
  return e;
}

// read returns the JSON of an answer. An error has the status of the answer.
export async function read(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(8000) });
  if (!response.ok) throw Object.assign(new Error(response.statusText), { status: response.status });
  return response.json();
}

// copies makes a button copy a text when it is pressed. Where there is no clipboard, it is hidden.
export function copies(button, text) {
  const title = button.textContent;
  button.hidden = !navigator.clipboard;
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = title; }, 2000);
  });
}
