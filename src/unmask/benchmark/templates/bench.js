for (const table of document.querySelectorAll(".sortable")) {
  const body = table.tBodies[0], titles = [...table.tHead.rows[0].cells];
  const number = (text) => text !== "" && !Number.isNaN(Number(text));
  titles.forEach((title, column) => {
    const words = [...body.rows].every((row) => !number(row.cells[column].dataset.value)) && column < 2;
    for (const row of words ? table.rows : []) row.cells[column].classList.add("word");
    title.querySelector("button").addEventListener("click", () => {
      const falls = title.getAttribute("aria-sort") !== "descending";
      titles.forEach((one) => one.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [a, b].map((row) => row.cells[column].dataset.value);
        if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured comes last, always
        const order = number(x) && number(y) ? Number(x) - Number(y) : x.localeCompare(y);
        return falls ? -order : order;
      });
      body.append(...rows);
    });
  });
}
