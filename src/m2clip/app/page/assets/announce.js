// One live region that stays in the page: whatever a status line says is said here, too, for those who do not see it.
const region = element.querySelector("[role=status]");
let said = "";
new MutationObserver(() => {
  const lines = [...document.querySelectorAll(".m2-status, .m2-trouble, .m2-picker-trouble:not([hidden])")].filter((one) => one.offsetParent);
  const text = lines.map((one) => one.textContent.trim()).filter(Boolean).join(" ");
  if (text !== said) region.textContent = said = text;
}).observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["hidden"] });
