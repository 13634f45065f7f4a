//! An answer with its evidence as a file: JSON for programs, and one page for people that holds
//! its pictures, draws outlines as SVG and runs no script.

use std::fmt::Write;

use serde::Serialize;

use crate::api::{
    CheckView, ClaimState, ClaimView, EvidenceView, ExpertView, MarkReliability, Measurement, Word,
};

use super::phrase::percent;

/// Everything that is known of one answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    pub program: String,
    pub model: String,
    pub quantization: String,
    pub question: String,
    pub answer: String,
    pub words: Vec<Word>,
    pub check: Option<CheckView>,
    pub numbers: Option<ExpertView>,
    pub marks: Vec<MarkReliability>,
    pub measured: Option<Measurement>,
    pub pictures: Vec<PictureFacts>,
}

/// A picture of the answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PictureFacts {
    pub id: u32,
    pub name: String,
    pub width: u32,
    pub height: u32,
    /// PNG, as it is shown; only in the page.
    #[serde(skip)]
    pub png: Vec<u8>,
}

/// Indented, with a line's end.
pub(crate) fn json(facts: &Facts) -> String {
    serde_json::to_string_pretty(facts).unwrap_or_default() + "\n"
}

const STYLE: &str = "
:root{color-scheme:light dark}
body{max-width:860px;margin:2rem auto;padding:0 1.25rem;font:16px/1.55 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2.2rem}
.answer{font-size:1.3rem;line-height:1.8}
.seen{text-decoration:underline 2px #b4540a}
.guessed{text-decoration:underline dashed 1.5px #b4540a}
.unsupported{text-decoration:underline wavy 1.25px #777}
figure{margin:1rem 0}figcaption{margin-top:.4rem}
.picture{position:relative;background-size:100% 100%}
.picture svg{position:absolute;inset:0;width:100%;height:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .9rem .2rem 0;text-align:left;border-bottom:1px solid #8884}
small{color:#777}";

/// The page.
pub(crate) fn html(facts: &Facts) -> String {
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let title = escaped(&facts.question);
    let _ = write!(page, "<title>{title}</title><style>{STYLE}");
    for picture in &facts.pictures {
        let (ratio, data) = (picture.width as f32 / picture.height as f32, base64(&picture.png));
        let _ = write!(
            page,
            "\n.p{}{{aspect-ratio:{ratio};background-image:url(data:image/png;base64,{data})}}",
            picture.id
        );
    }
    let _ = write!(page, "</style></head><body><h1>{title}</h1>");
    let _ = write!(page, "<p class=\"answer\">{}</p>", marked(facts));
    let _ = write!(
        page,
        "<p><small>{} ({}) in {}.</small></p>",
        escaped(&facts.model),
        escaped(&facts.quantization),
        escaped(&facts.program)
    );
    let claims = facts.check.as_ref().map_or(&[] as &[ClaimView], |check| &check.claims);
    let trusted = || claims.iter().filter(|claim| claim.trusted);
    if trusted().next().is_none() {
        facts.pictures.iter().for_each(|picture| figure(&mut page, picture, None, ""));
    }
    for claim in trusted() {
        let _ = write!(page, "<h2>{}</h2>", escaped(&claim.text));
        let evidence = claim.evidence.as_ref();
        let seen = evidence.map(|evidence| evidence.image);
        let picture = facts.pictures.iter().find(|picture| seen.is_none_or(|id| id == picture.id));
        let says = format!("{}: {}.", label(claim.state), claim.words);
        if let Some(picture) = picture {
            figure(&mut page, picture, evidence, &says);
        }
        let (with, without) = (percent(claim.with), percent(claim.without));
        let _ = write!(page, "<p>With the picture {with}, without it {without} likely.</p>");
        if let Some(tested) = &claim.tested {
            let verdict = if tested.holds { "Tested" } else { "Tested, not confirmed" };
            let _ = write!(page, "<p><b>{verdict}.</b> {}</p>", escaped(&tested.words));
        }
    }
    numbers(&mut page, facts);
    reliability(&mut page, facts);
    page + "</body></html>\n"
}

fn figure(
    page: &mut String,
    picture: &PictureFacts,
    evidence: Option<&EvidenceView>,
    caption: &str,
) {
    let (w, h) = (picture.width, picture.height);
    let name = escaped(&picture.name);
    let _ = write!(
        page,
        "<figure><div class=\"picture p{}\" role=\"img\" aria-label=\"{name}. {}\">",
        picture.id,
        escaped(caption)
    );
    if let Some(evidence) = evidence {
        let rings = evidence.outline.iter().map(|ring| {
            let points = ring.iter().map(|[x, y]| format!("{x} {y}"));
            format!("M{}Z", points.collect::<Vec<String>>().join("L"))
        });
        let rings: String = rings.collect();
        let line = "fill=\"none\" vector-effect=\"non-scaling-stroke\" stroke-linejoin=\"round\"";
        let _ = write!(
            page,
            "<svg viewBox=\"0 0 {w} {h}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <path d=\"M0 0H{w}V{h}H0Z{rings}\" fill=\"#0a0908\" fill-opacity=\".55\" \
             fill-rule=\"evenodd\"/><path d=\"{rings}\" {line} stroke=\"#000\" \
             stroke-width=\"5\"/><path d=\"{rings}\" {line} stroke=\"#ffb326\" \
             stroke-width=\"2\"/></svg>"
        );
    }
    let _ = write!(page, "</div><figcaption>{}</figcaption></figure>", escaped(caption));
}

/// The answer with its claims underlined; the shortest claim owns what lies in several.
fn marked(facts: &Facts) -> String {
    let units: Vec<u16> = facts.answer.encode_utf16().collect();
    let claims = facts.check.as_ref().map_or(&[] as &[ClaimView], |check| &check.claims);
    let owner = |at: usize| {
        let at = at as u32;
        let around = claims.iter().filter(|c| c.trusted && c.start <= at && at < c.end);
        around.min_by_key(|claim| claim.end - claim.start).map(|claim| (claim.index, claim.state))
    };
    let mut text = String::new();
    let mut at = 0;
    while at < units.len() {
        let to = (at..units.len()).find(|&i| owner(i) != owner(at)).unwrap_or(units.len());
        let piece = escaped(&String::from_utf16_lossy(&units[at..to]));
        match owner(at) {
            Some((_, state)) => {
                let class = label(state).replace("Not supported", "unsupported").to_lowercase();
                let title = label(state);
                let _ = write!(text, "<span class=\"{class}\" title=\"{title}\">{piece}</span>");
            }
            None => text.push_str(&piece),
        }
        at = to;
    }
    text
}

fn numbers(page: &mut String, facts: &Facts) {
    let Some(numbers) = &facts.numbers else { return };
    page.push_str(
        "<h2>Raw numbers</h2><table><tr><th>Word</th><th>Log-probability</th><th>Without the \
         picture</th><th>Entropy</th><th>Image mass</th><th>Null mass</th></tr>",
    );
    for word in &numbers.words {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td>\
             </tr>",
            escaped(&word.text),
            word.logprob,
            word.logprob_without,
            word.entropy,
            word.image_mass,
            word.null_mass
        );
    }
    page.push_str("</table>");
}

fn reliability(page: &mut String, facts: &Facts) {
    let all = facts.marks.iter().filter(|mark| mark.kind.is_none());
    let lines: Vec<String> = all
        .map(|mark| format!("<li>{}: {}</li>", label(mark.state), escaped(&mark.words)))
        .collect();
    if !lines.is_empty() {
        let _ = write!(page, "<h2>What these marks are worth</h2><ul>{}</ul>", lines.concat());
    }
}

fn label(state: ClaimState) -> &'static str {
    match state {
        ClaimState::Seen => "Seen",
        ClaimState::Guessed => "Guessed",
        ClaimState::Unsupported => "Not supported",
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_the_standard_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_page_stands_alone_and_what_was_said_is_never_markup() {
        let page = html(&Facts {
            program: "Sightline".into(),
            model: "nano".into(),
            quantization: "none".into(),
            question: "<script>alert(1)</script>".into(),
            answer: "A <b>car</b>".into(),
            words: Vec::new(),
            check: None,
            numbers: None,
            marks: Vec::new(),
            measured: None,
            pictures: vec![PictureFacts {
                id: 3,
                name: "a\"b.png".into(),
                width: 4,
                height: 2,
                png: vec![1, 2, 3],
            }],
        });
        assert!(!page.contains("<script") && !page.contains("<b>car"), "{page}");
        assert!(page.contains("data:image/png;base64,AQID") && !page.contains("http"), "{page}");
        assert!(page.contains("a&quot;b.png"));
    }
}
