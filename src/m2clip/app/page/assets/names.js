// A text file of names is read here and put into the box beside it; it goes nowhere else.
const input = element.querySelector("input"), note = element.querySelector(".m2-note");
element.querySelector("button").addEventListener("click", () => input.click());
input.addEventListener("change", async () => {
  const file = input.files[0];
  input.value = "";
  if (!file) return;
  if (file.size > 2 ** 18) {
    note.textContent = `${file.name} is too long for a list of names: choose a text file with a name a line.`;
    return;
  }
  const text = await file.text();
  if (text.includes("\u0000") || text.includes("\ufffd")) {
    note.textContent = `${file.name} is no text file: choose one with a name a line.`;
    return;
  }
  const box = document.querySelector(`#${element.querySelector("[data-box]").dataset.box} textarea`);
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, text.trim());
  box.dispatchEvent(new Event("input", { bubbles: true }));
  note.textContent = `${text.trim().split(/\r?\n/).length} lines from ${file.name}`;
});
