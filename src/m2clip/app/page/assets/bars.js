// A bar is a button: pressing it asks for the map of its action.
element.addEventListener("click", (event) => {
  const bar = event.target.closest("[data-place]");
  if (bar) trigger("select", { place: Number(bar.dataset.place) });
});
