// Comfort only: every page works without this file.
"use strict";

// Buttons that copy what stands elsewhere on the page; where the clipboard is closed to us, it is selected instead.
for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
        try {
            await navigator.clipboard.writeText(source.textContent);
            button.textContent = "Copied";
        } catch {
            getSelection().selectAllChildren(source);
            button.textContent = "Selected";
        }
    });
}

// Forms that can't be undone ask first.
for (const form of document.querySelectorAll("form[data-confirm]"))
    form.addEventListener("submit", (event) => {
        if (!confirm(form.dataset.confirm)) event.preventDefault();
    });
