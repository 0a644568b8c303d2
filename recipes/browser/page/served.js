// No module: where the page is opened as a file, browsers load no modules, and it says so.
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    const error = document.getElementById("error");
    error.textContent =
      "This page was opened as a file, and browsers load its parts from a server only. Run " +
      "`python3 -m http.server -d FOLDER` with the folder of this page, and open the address that it prints.";
    error.hidden = false;
  });
}
