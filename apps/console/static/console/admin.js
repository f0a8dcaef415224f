// Copy buttons: <button data-copy="id of the element">. Without a secure context there is no clipboard: the text is
// selected instead.
document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    let said = "Selected";
    try {
        await navigator.clipboard.writeText(source.textContent);
        said = "Copied";
    } catch (error) {
        // selected, then
    }
    const label = button.textContent;
    button.textContent = said;
    setTimeout(() => { button.textContent = label; }, 1500);
});
