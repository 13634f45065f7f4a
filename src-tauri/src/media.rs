//! The `media:` scheme: pictures by their number, never by a path that the page names.
use app::App;
use tauri::http::{Request, Response, StatusCode, header};
use tauri::{Manager, Runtime, UriSchemeContext, UriSchemeResponder};

/// `/image/ID` is the upright original, `/seen/ID` the exact pixels that the model receives.
pub fn answer<R: Runtime>(
    context: UriSchemeContext<'_, R>,
    request: Request<Vec<u8>>,
    responder: UriSchemeResponder,
) {
    let app = context.app_handle().state::<App>().inner().clone();
    tauri::async_runtime::spawn_blocking(move || {
        responder.respond(picture(&app, request.uri().path()));
    });
}

fn picture(app: &App, path: &str) -> Response<Vec<u8>> {
    let path = path.replace("%2F", "/");
    let png = match path.trim_start_matches('/').split_once('/') {
        Some(("image", id)) => id.parse().ok().and_then(|id| app.image_png(id).ok()),
        Some(("seen", id)) => id.parse().ok().and_then(|id| app.seen_png(id).ok()),
        _ => None,
    };
    let (status, body) = match png {
        Some(bytes) => (StatusCode::OK, bytes),
        None => (StatusCode::NOT_FOUND, Vec::new()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("image/png"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
