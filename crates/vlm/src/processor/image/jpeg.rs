//! JPEG files -> pixels, bit for bit those that libjpeg-turbo gives.
//!
//! Why not the `image` crate's own decoder: vision towers are trained and the reference processors
//! run on what Pillow reads, and Pillow reads with libjpeg-turbo. Other roundings of the inverse
//! cosine transform, of the chroma's upsampling and of the colours move pixels of real photos by up
//! to 5 steps of 255, where everything that follows is exact. Knows no models and no files.

use image::error::{
    DecodingError, LimitError, LimitErrorKind, UnsupportedError, UnsupportedErrorKind,
};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult, Limits};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

/// Most passes over the picture. Real progressive files have about ten; each costs the time of one
/// whole picture, however few bytes it has.
const MAX_SCANS: usize = 100;

/// A JPEG as the `image` crate sees a decoder; always 8-bit RGB.
pub struct JpegDecoder<'a>(Decoder<'a>);

impl<'a> JpegDecoder<'a> {
    /// Reads the headers in `bytes`, no pixels.
    pub fn new(bytes: &'a [u8]) -> ImageResult<JpegDecoder<'a>> {
        let limits = DecodeLimits { max_scans: MAX_SCANS, ..DecodeLimits::default() };
        Ok(JpegDecoder(Decoder::new_with_limits(bytes, limits).map_err(image_error)?))
    }
}

impl ImageDecoder for JpegDecoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        let header = self.0.header();
        (u32::from(header.width), u32::from(header.height))
    }

    fn color_type(&self) -> ColorType {
        ColorType::Rgb8
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        let orientation = self.0.exif_orientation().and_then(Orientation::from_exif);
        Ok(orientation.unwrap_or(Orientation::NoTransforms))
    }

    fn set_limits(&mut self, limits: Limits) -> ImageResult<()> {
        let (width, height) = self.dimensions();
        limits.check_dimensions(width, height)?;
        if let Some(memory) = limits.max_alloc {
            // The decoder counts the picture among its memory; `limits` have set it aside.
            self.0.set_max_memory(memory.saturating_add(self.total_bytes()) as usize);
        }
        Ok(())
    }

    fn read_image(mut self, buf: &mut [u8]) -> ImageResult<()> {
        if self.0.header().components.len() == 4 {
            self.0.set_output_format(PixelFormat::Cmyk);
            let inks = self.0.decode_image().map_err(image_error)?;
            for (pixel, inks) in buf.chunks_exact_mut(3).zip(inks.data.chunks_exact(4)) {
                pixel.copy_from_slice(&printed([inks[0], inks[1], inks[2], inks[3]]));
            }
            return Ok(());
        }
        self.0.set_output_format(PixelFormat::Rgb);
        self.0.decode_image_into(buf).map_err(image_error)?;
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, buf: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buf)
    }
}

/// Four inks, stored inverted as Adobe does and everybody after it -> the colour on paper, as
/// Pillow's `cmyk2rgb` mixes it.
fn printed([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(black) + 128;
        black.saturating_sub(((product + (product >> 8)) >> 8) as u8)
    })
}

fn image_error(error: JpegError) -> ImageError {
    let format = || ImageFormat::Jpeg.into();
    match error {
        JpegError::LimitExceeded { .. } | JpegError::AllocationFailed { .. } => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        JpegError::Unsupported(feature) => {
            let kind = UnsupportedErrorKind::GenericFeature(feature);
            ImageError::Unsupported(UnsupportedError::from_format_and_kind(format(), kind))
        }
        other => ImageError::Decoding(DecodingError::new(format(), other)),
    }
}
