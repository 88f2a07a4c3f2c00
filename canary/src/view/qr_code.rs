//! An address as a QR code, which the camera of a phone reads.

use qrcode::{
    QrCode,
    render::{svg, unicode::Dense1x2},
};

/// Black on white, whatever the colours of the terminal are.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";

/// A picture for a page. It is empty if the text is too long for a code, which no address is.
pub(crate) fn svg(text: &str) -> String {
    QrCode::new(text)
        .map(|code| code.render::<svg::Color>().min_dimensions(200, 200).build())
        .unwrap_or_default()
}

/// Lines of blocks for a terminal, which has these colours if `coloured`. Without them, it is dark on light where the
/// terminal is light on dark, as most are.
pub(crate) fn lines(text: &str, coloured: bool) -> String {
    let Ok(code) = QrCode::new(text) else { return String::new() };
    let mut renderer = code.render::<Dense1x2>();
    if !coloured {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let (before, after) = if coloured { (COLOURS, "\x1b[0m") } else { ("", "") };
    let lines = renderer.build();
    lines.lines().flat_map(|line| [before, line, after, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a camera reads in the lines, of which each character is two modules.
    fn read(lines: &str, dark: bool) -> String {
        let rows: Vec<Vec<char>> = lines.lines().map(|line| line.chars().collect()).collect();
        let (width, scale) = (rows[0].len(), 4);
        let is_block = |x: usize, y: usize| {
            let blocks = if y.is_multiple_of(2) { ['▀', '█'] } else { ['▄', '█'] };
            blocks.contains(&rows[y / 2][x])
        };
        let mut picture =
            rqrr::PreparedImage::prepare_from_greyscale(width * scale, rows.len() * 2 * scale, |x, y| {
                if is_block(x / scale, y / scale) == dark { 0 } else { 255 }
            });
        picture.detect_grids()[0].decode().expect("a code").1
    }

    #[test]
    fn a_camera_reads_the_address_and_the_code_fits_into_a_terminal() {
        for url in ["http://192.168.1.20:8091", "http://[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"] {
            let plain = lines(url, false);
            assert_eq!(read(&plain, false), url);
            assert!(plain.lines().count() <= 23 && plain.lines().all(|line| line.chars().count() <= 80));
            let coloured = lines(url, true);
            assert!(coloured.lines().all(|line| line.starts_with(COLOURS) && line.ends_with("\x1b[0m")));
            assert_eq!(read(&coloured.replace(COLOURS, "").replace("\x1b[0m", ""), true), url);
        }
    }

    #[test]
    fn the_picture_is_one_that_the_pages_policy_allows() {
        let picture = svg("http://192.168.1.20:8091");
        assert!(picture.contains("<svg") && picture.len() < 10_000, "{picture}");
        for active in ["<script", "style=", "href"] {
            assert!(!picture.contains(active), "{active}");
        }
    }
}
