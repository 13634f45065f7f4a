//! The real window, driven through its own web view under a display: a picture comes in, a question
//! is answered in tokens, a word is pointed at and its region appears where it should.
//!
//! Needs WebKitWebDriver and a display (Xvfb is started where there is none). Where either is
//! missing, or no model is shipped, each test says so and ends. Photographs of the window are kept
//! under `SIGHTLINE_ARTEFACTS`, else under `e2e` in the build folder.
#![cfg(target_os = "linux")]

#[path = "e2e/window.rs"]
mod window;

use std::time::Duration;

use window::Window;

/// A test that hangs says so instead of stopping the whole run.
async fn within(test: impl Future<Output = ()>) {
    let limit = Duration::from_secs(300);
    let ended = tokio::time::timeout(limit, test).await;
    assert!(ended.is_ok(), "the window did not get there in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_asked_and_its_words_show_their_regions() {
    within(async {
        let picture = window::picture("asked picture.png");
        let Some(window) = Window::open(&[&picture]).await else { return };
        if !window.model_is_ready().await {
            return window.close().await;
        }
        window.until("document.body.textContent.includes('asked picture.png')").await;
        window.until("document.querySelector('#picture-frame img').naturalWidth > 0").await;
        window.keep("1-ready").await;
        window.ask("What is in the picture?").await;
        window.until("document.querySelector('[data-testid=facts]') !== null").await;
        window.keep("2-answered").await;
        let text = window.value("document.querySelector('[data-testid=answer]').textContent").await;
        assert!(!text.as_str().unwrap_or_default().trim().is_empty(), "an empty answer");
        point_at_a_word(&window).await;
        look_through_the_models_eyes(&window).await;
        window.close().await;
    })
    .await;
}

/// The region of the first claim or word that has one lies on the picture where it says.
async fn point_at_a_word(window: &Window) {
    marks_are_settled(window).await;
    window.keep("2-checked").await;
    window.until("document.querySelector('[data-testid=region]') === null").await;
    if window.value("document.querySelector('.answer [data-region]') === null").await == true {
        eprintln!("this model gave no word a region; pointing is covered by the page's own tests");
        return;
    }
    window.point_at(".answer [data-region]").await;
    window.until("document.querySelector('[data-testid=region]') !== null").await;
    let inside = "(() => { const box = (s) => document.querySelector(s).getBoundingClientRect(); \
        const [r, f] = [box('[data-testid=region]'), box('#picture-frame')]; \
        return r.width > 0 && r.height > 0 && r.left >= f.left - 1 && r.top >= f.top - 1 \
        && r.right <= f.right + 1 && r.bottom <= f.bottom + 1 })()";
    window.until(inside).await;
    window.until("document.querySelectorAll('[data-testid=outline]').length === 1").await;
    let spoken = "document.querySelector('[data-testid=spoken]').textContent.includes('rests on')";
    window.until(spoken).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    window.keep("3-region").await;
}

/// The answer was checked, or the model is not calibrated and says so.
async fn marks_are_settled(window: &Window) {
    let off = "document.querySelector('[data-testid=calibrate]') !== null";
    let settled = "document.querySelector('[data-testid=checking]') === null \
        && document.querySelector('article .line') !== null";
    window.until(&format!("{off} || ({settled})")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_looked_into_searched_hidden_and_measured() {
    within(async {
        let picture = window::picture("looked into.png");
        let Some(window) = Window::open(&[&picture]).await else { return };
        if !window.model_is_ready().await {
            return window.close().await;
        }
        window.until("document.querySelector('#picture-frame img').naturalWidth > 0").await;
        window.ask("What is in the picture?").await;
        window.until("document.querySelector('[data-testid=facts]') !== null").await;
        marks_are_settled(&window).await;
        // A word that nobody said.
        let search = "(() => { const field = document.querySelector('[data-testid=word-search]'); \
            field.value = 'car'; field.dispatchEvent(new Event('input', {bubbles: true})); \
            field.form.requestSubmit(); return true })()";
        window.value(search).await;
        let found = "document.querySelector('[data-testid=search-result]')?.textContent\
            .includes('“car”') === true";
        window.until(found).await;
        window.keep("10-search").await;
        // A spot, and a box that is asked about alone.
        window.drag_on_picture((0.5, 0.6), (0.5, 0.6)).await;
        window.until("document.querySelector('[data-testid=spot]') !== null").await;
        window.keep("11-spot").await;
        window.drag_on_picture((0.1, 0.3), (0.6, 0.9)).await;
        window.until("document.querySelector('[data-testid=box]') !== null").await;
        window.keep("12-box").await;
        window.press("Ask about this").await;
        window.ask("What is here?").await;
        window.until("document.querySelectorAll('[data-testid=facts]').length === 2").await;
        window.until("document.querySelector('.question .about') !== null").await;
        // The raw numbers.
        window.value("document.querySelector('[data-testid=expert]').click()").await;
        window.until("document.querySelectorAll('[data-testid=heads] button').length > 0").await;
        window.until("document.querySelectorAll('[data-testid=drawer] tbody tr').length > 0").await;
        window.keep("13-numbers").await;
        window.value("document.querySelector('[data-testid=model]').click()").await;
        window.until("document.querySelector('[data-testid=tab-marks]') !== null").await;
        window.value("document.querySelector('[data-testid=tab-marks]').click()").await;
        window.until("document.querySelector('[data-testid=reliability] h3') !== null").await;
        window.keep("14-marks").await;
        window.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_covered_tested_and_looked_at_without_the_picture() {
    within(async {
        let picture = window::picture("put to the test.png");
        let Some(window) = Window::open(&[&picture]).await else { return };
        if !window.model_is_ready().await {
            return window.close().await;
        }
        window.ask("What is in the picture?").await;
        window.until("document.querySelector('[data-testid=facts]') !== null").await;
        marks_are_settled(&window).await;
        if window.value("document.querySelector('.claim[data-region]') === null").await == true {
            eprintln!("this model marks no claim; that is covered by the page's own tests");
            return window.close().await;
        }
        window.value("document.querySelector('.claim[data-region]').click()").await;
        window.until("document.querySelector('[data-testid=claim-card]') !== null").await;
        window.keep("15-claim").await;
        for (button, name) in [("Cover this", "16-covered"), ("Test this", "17-tested")] {
            window.press(button).await;
            let ended = "document.querySelector('[data-testid=outcome]') !== null";
            window.until(ended).await;
            window.keep(name).await;
        }
        window.press("Look without").await;
        window.until("document.querySelectorAll('[data-testid=trial] tbody tr').length > 0").await;
        window.value("document.documentElement.dataset.theme = 'dark'").await;
        window.keep("18-without-dark").await;
        window.close().await;
    })
    .await;
}

async fn look_through_the_models_eyes(window: &Window) {
    window.point_at("h1").await;
    window.value("document.querySelectorAll('.views button')[1].click()").await;
    window.until("document.querySelector('figure img')?.naturalWidth > 0").await;
    window.keep("4-seen").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_held_in_fewer_bits_the_chat_goes_on_and_the_choice_is_kept() {
    within(async {
        let picture = window::picture("held in fewer bits.png");
        let Some(window) = Window::open(&[&picture]).await else { return };
        if !window.model_is_ready().await {
            return window.close().await;
        }
        window.ask("What is in the picture?").await;
        window.until("document.querySelectorAll('[data-testid=facts]').length === 1").await;
        window.value("document.querySelector('[data-testid=model]').click()").await;
        let rows = "document.querySelectorAll('[data-testid=quantization] tbody tr').length === 3";
        window.until(rows).await;
        window.look_at("[data-testid=quantization]").await;
        window.keep("6-quantization").await;
        window.value("document.querySelector('input[value=q8_0]').click()").await;
        let held = "document.querySelector('[data-testid=model].ready small')?.textContent\
            .includes('8 bits') === true";
        window.until(held).await;
        window.value("document.documentElement.dataset.theme = 'dark'").await;
        window.keep("7-quantization-dark").await;
        window.value("document.querySelector('dialog').close()").await;
        window.ask("Where is it?").await;
        window.until("document.querySelectorAll('[data-testid=facts]').length === 2").await;
        window.close().await;
        let Some(window) = Window::open(&[]).await else { return };
        window.until(held).await;
        window.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_that_can_be_got_are_listed_searched_and_said_to_fit_or_not() {
    within(async {
        let Some(window) = Window::open(&[]).await else { return };
        window.model_is_ready().await;
        window.value("document.querySelector('[data-testid=model]').click()").await;
        window.until("document.querySelector('[data-testid=tab-get]') !== null").await;
        window.value("document.querySelector('[data-testid=tab-get]').click()").await;
        window.until("document.querySelectorAll('[data-testid=offer]').length > 10").await;
        let fits = "document.querySelector('[data-testid=fit]').textContent\
            .includes('512-px picture; this machine has')";
        window.until(fits).await;
        window.keep("8-get-models").await;
        // Offline is kept by the program, not by the page.
        window.value("document.querySelector('.switch input').click()").await;
        window.until("document.querySelector('[data-testid=offline]') !== null").await;
        window.until("document.querySelector('[data-testid=offer] button').disabled").await;
        window.value("document.documentElement.dataset.theme = 'dark'").await;
        window.keep("9-get-models-dark").await;
        window.close().await;
        let Some(window) = Window::open(&[]).await else { return };
        let library = "window.__TAURI_INTERNALS__.invoke('library')\
            .then(view => { if (view.settings.offline) throw 1 })";
        assert_eq!(window.refuses(library).await, true, "it is remembered");
        window.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_picture_joins_and_a_broken_one_is_explained() {
    within(async {
        let Some(window) = Window::open(&[]).await else { return };
        window.until("document.querySelector('main') !== null").await;
        let bytes = std::fs::read(window::picture("pasted.png")).expect("a picture was drawn");
        window.paste("pasted.png", &bytes).await;
        window.until("document.body.textContent.includes('pasted.png')").await;
        window.paste("broken.png", &bytes[..bytes.len() / 3]).await;
        window.until("document.querySelector('[data-testid=error]') !== null").await;
        let error = window.value("document.querySelector('[data-testid=error]').textContent").await;
        assert!(error.as_str().unwrap_or_default().contains("broken.png"), "{error}");
        window.keep("5-broken").await;
        window.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_closed_while_it_answers_ends_at_once() {
    within(async {
        let picture = window::picture("closed while answering.png");
        let Some(window) = Window::open(&[&picture]).await else { return };
        if !window.model_is_ready().await {
            return window.close().await;
        }
        window.until("document.querySelector('#picture-frame img').naturalWidth > 0").await;
        let process = window::process("closed while answering.png").expect("the program runs");
        window.ask("Describe the picture.").await;
        window::press_close(process).expect("the window is told to close");
        for _ in 0..100 {
            if window::process("closed while answering.png").is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the program was still running ten seconds after its window was closed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_cannot_do_what_it_was_not_given() {
    within(async {
        let Some(window) = Window::open(&[]).await else { return };
        window.until("document.querySelector('main') !== null").await;
        for forbidden in [
            "fetch('http://127.0.0.1:9/')",
            "window.__TAURI_INTERNALS__.invoke('plugin:dialog|open', {options: {}})",
            "window.__TAURI_INTERNALS__.invoke('plugin:fs|read_file', {path: '/etc/passwd'})",
            "window.__TAURI_INTERNALS__.invoke('plugin:event|emit', {event: 'x', payload: 1})",
            "fetch('media://localhost/image/99999').then(r => { if (!r.ok) throw 404 })",
        ] {
            assert_eq!(window.refuses(forbidden).await, true, "{forbidden}");
        }
        window.value("location.href = 'http://127.0.0.1:9/?secret'").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        window.until("location.protocol === 'tauri:'").await;
        window.close().await;
    })
    .await;
}

#[test]
fn without_a_display_it_says_what_to_do() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_sightline-app"))
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("no display") && said.contains("sightline ask"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_wrong_flag_is_named() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_sightline-app"))
        .arg("--fast")
        .output()
        .expect("the program starts");
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("--fast is not known"));
}
