import re

import pytest

from hybrid.datasets.face_csv import boxes, table


@pytest.mark.parametrize(
    ('header', 'cells'),
    [
        ('x,y,width,height', '40,100,160,120'),
        ('x,y,w,h', '40,100.0,160,120'),
        ('left,top,width,height', '40,100,160,120'),
        ('X_min,Y_min,X_max,Y_max', '40,100,200,220'),
        ('xmin,ymin,xmax,ymax', '40,100,200,220'),
        ('face_x0,face_y0,face_x1,face_y1', '40,100,200,220'),
        ('x0,y0,x1,y1', '40,100,200,220'),
        ('x1,y1,x2,y2', '40,100,200,220'),
        ('left,top,right,bottom', '40,100,200,220'),
        ('x_max,x_min,y_max,y_min', '200,40,220,100'),
        ('x,y,width,height,person_x0,person_y0', '40,100,160,120,1,2'),
    ],
)
def test_a_box_is_left_top_width_and_height_however_it_is_written(tmp_path, header, cells):
    path = tmp_path / 'faces.csv'
    path.write_text(f'path,age,gender,{header}\na.jpg,1,f,{cells}\n')
    (face,) = table.read_table(path)
    assert face.box == (40, 100, 160, 120)
    assert face.id == 'a.jpg#40,100,160,120'
    assert (face.whole, face.photo) == (False, 'a.jpg')


@pytest.mark.parametrize(
    ('header', 'cells', 'message'),
    [
        ('x,y,width', '1,2,3', 'line 1: column x, y: a box also needs height; it is x, y, width'),
        ('x,y,width,hight', '1,2,3,4', 'line 1: column x, y: a box also needs height'),
        ('x_min,y_min,x_max', '1,2,3', 'line 1: column x_min, y_min, x_max: a box also needs y_m'),
        ('x,y,width,height,x_min,y_min,x_max,y_max', '1,' * 7 + '1', 'are two boxes a line'),
        ('x,y,width,height', '1,2,,4', "line 2: x '1', y '2', width '', height '4': a box is four"),
        ('x,y,width,height', '1,2,a,4', "width 'a', height '4': a box is four numbers"),
        ('x,y,width,height', '1,2,nan,4', "width 'nan', height '4': a box is four finite"),
        ('x,y,width,height', '1,2,inf,4', 'a box is four finite numbers'),
        ('x,y,width,height', '1,2,-3,4', 'the box is -3 wide and 4 high'),
        ('x,y,width,height', '0.1,0.2,0.3,0.4', 'it is in pixels of the picture'),
        ('x_min,y_min,x_max,y_max', '30,20,10,40', 'the box is -20 wide and 20 high'),
        ('x_min,y_min,x_max,y_max', '30,20,30,40', 'the box is 0 wide'),
        ('x,y,width,height', '1e9,2,3,4', 'the box is 3 wide'),
        (
            'photo,face,x,y,width,height',
            'b.jpg,0,1,2,3,4',
            'in path, or in photo? Remove photo, or',
        ),
        ('bbox', '1 2 3 4', "line 1: column 'bbox': a box has four columns, x, y, width, height"),
        ('BBox_x,bbox_y,bbox_w,bbox_h', '1,2,3,4', "line 1: column 'bbox_x': a box has four"),
        ('face_location', '1 2 3 4', "line 1: column 'face_location': a box has four columns"),
    ],
)
def test_what_is_no_box_is_an_error_of_one_line(tmp_path, header, cells, message):
    path = tmp_path / 'faces.csv'
    path.write_text(f'path,age,gender,{header}\na.jpg,1,f,{cells}\n')
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        table.read_table(path)
    assert str(error.value).startswith(f'{path}, line ')
    assert '\n' not in str(error.value)


def test_faces_of_a_picture_are_told_apart_by_their_boxes_and_lines_may_have_none(tmp_path):
    path = tmp_path / 'faces.csv'
    lines = ['a.jpg,1,f,1.5,2,30,40', 'a.jpg,9,m,100.257,2,30,40', 'b.jpg,5,f,,,,']
    path.write_text(
        '\n'.join(['path,age,gender,x,y,width,height', *lines, 'c.jpg,5,f,-1,-1,-1,-1'])
    )
    faces = table.read_table(path)
    assert [face.id for face in faces] == [
        *('a.jpg#1.5,2,30,40', 'a.jpg#100.26,2,30,40', 'b.jpg', 'c.jpg')
    ]
    assert [face.box for face in faces[2:]] == [None, None]
    assert not any(face.whole for face in faces)
    path.write_text('\n'.join(['path,age,gender,x,y,width,height', *lines, lines[0]]))
    with pytest.raises(ValueError, match=r"line 5: 'a\.jpg#1\.5,2,30,40' is on line 2 too"):
        table.read_table(path)
    path.write_text('path,age,gender\na,1,f\na,2,m\n')
    with pytest.raises(ValueError, match="'a' is on line 2 too; several faces of a picture need"):
        table.read_table(path)


def test_the_size_of_a_picture_is_no_box_and_the_boxes_of_crops_lie_elsewhere():
    assert boxes.find(['path', 'width', 'height', 'w', 'h']) is None
    of_crops = ['path', 'photo', 'face', 'x', 'y', 'width', 'height', 'detection_score']
    assert boxes.find(of_crops) is None
    # Tables that were made before there was a column `turn` lack it.
    assert boxes.of_crops(of_crops) == {*of_crops[1:], 'turn'}
    assert boxes.find(of_crops[2:]) == ['x', 'y', 'width', 'height']
